const slash = 0x2f;
const hexChars = 64;
/** What OSTree's stores append to the name of an object. */
const ostreeSuffix = Buffer.from('.file');

const isHexDigit = Uint8Array.from({ length: 256 }, (_, byte) =>
  /[0-9a-f]/.test(String.fromCharCode(byte)) ? 1 : 0,
);

/** The longest redirect into a store, in bytes. */
export const storeRedirectBytesMax: number = '//'.length + hexChars + ostreeSuffix.length;

/**
 * Whether the `length` bytes at `offset` are a redirect into a store: "/", two lower-case hexadecimal digits, "/", 62 more, and
 * perhaps ".file". By bytes and not by a pattern because a large image has many thousands.
 */
export function isStoreRedirect(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length !== 2 + hexChars && length !== storeRedirectBytesMax) return false;
  if (bytes[offset] !== slash || bytes[offset + 3] !== slash) return false;
  const digitsEnd = offset + 2 + hexChars;
  for (let index = offset + 1; index < digitsEnd; index++) {
    if (index !== offset + 3 && isHexDigit[bytes[index] ?? 0] !== 1) return false;
  }
  const suffixBytes = length - 2 - hexChars;
  for (let index = 0; index < suffixBytes; index++) {
    if (bytes[digitsEnd + index] !== ostreeSuffix[index]) return false;
  }
  return true;
}
