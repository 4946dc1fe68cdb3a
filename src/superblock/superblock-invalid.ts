/** An image is not the filesystem that it is said to be, or not all of one; the message says what is wrong. */
export class SuperblockInvalid extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'SuperblockInvalid';
  }
}
