const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket; is cfs-mountd running?',
  ENOTDIR: 'there is no such socket; is cfs-mountd running?',
  ECONNREFUSED: 'nobody serves this socket; is cfs-mountd running?',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EAGAIN: 'the service has too many connections waiting',
};

/** There is no connection to the service: `code` is the name of errno. */
export class ServiceUnreachable extends Error {
  override readonly name = 'ServiceUnreachable';
  readonly socketPath: string;
  readonly code: string;

  constructor(socketPath: string, code: string) {
    super(`${socketPath}: ${Object.hasOwn(reasons, code) ? (reasons[code] ?? code) : code}`);
    this.socketPath = socketPath;
    this.code = code;
  }
}
