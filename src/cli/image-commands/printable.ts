/**
 * A binary string (each character a byte) as text for a terminal: UTF-8 where it is, with control and formatting
 * characters, bytes that are not UTF-8, and the backslash itself written `\xHH`. A hostile image cannot move the cursor
 * or write right to left through it.
 */
export function printable(binary: string): string {
  const text = utf8(binary);
  if (text === undefined) return escapeBytes(binary, /[^ -[\]-~]/g);
  return text.replace(/[\p{C}\p{Zl}\p{Zp}\\]/gu, (character) =>
    escapeBytes(Buffer.from(character).toString('latin1'), /[^]/g),
  );
}

/** What a binary string says in UTF-8, or undefined where it is not UTF-8. */
export function utf8(binary: string): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.from(binary, 'latin1'));
  } catch {
    return undefined;
  }
}

function escapeBytes(binary: string, which: RegExp): string {
  return binary.replace(which, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
