/**
 * The escapes of composefs-dump(5), between binary strings.
 */

const named: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };

function escapeByte(byte: string): string {
  return named[byte] ?? `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** A path: everything but printable ASCII without space is escaped. */
export function escapeText(text: string): string {
  return text.replace(/[^!-~]|\\/g, escapeByte);
}

const escape = /\\(?:([\\nrt])|x([0-9a-fA-F]{2}))/g;
const unescaped: ReadonlyMap<string, string> = new Map(
  Object.entries(named).map(([byte, text]) => [text, byte]),
);

/** The text that a field writes, or undefined where it has an escape that does not exist. */
export function unescapeText(field: string): string | undefined {
  if (!field.includes('\\')) return field;
  if (field.replace(escape, '').includes('\\')) return undefined;
  return field.replace(
    escape,
    (text, _name: unknown, hex: string | undefined) =>
      unescaped.get(text) ?? String.fromCharCode(Number.parseInt(hex ?? '', 16)),
  );
}
