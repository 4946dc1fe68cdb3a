/** Where the fields of a TOML text stand. */
export interface TomlLines {
  /**
   * The line, from 1, of a field such as `rules[2].signed-by[1]`, or of the nearest thing around it that has a
   * line; 0 where there is none.
   */
  lineOf(field: string): number;
}

interface Token {
  readonly text: string;
  readonly line: number;
}

/** Comments, line ends, the four kinds of strings, punctuation, and bare words (dots and dates belong to them). */
const tokens =
  /#[^\n]*|\n|"""(?:[^\\]|\\[\s\S])*?"""+|'''[\s\S]*?'''+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[[\]{},=]|[^\s#"'[\]{},=]+/g;

/**
 * Finds the lines of tables, keys, and elements of arrays in a text that the TOML parser has taken; that parser tells
 * lines only of syntax errors. What is inside inline tables counts as standing where the outermost one begins.
 */
export function indexTomlLines(text: string): TomlLines {
  const lines = new Map<string, number>();
  const counts = new Map<string, number>();
  const all = tokenize(text);
  let table = '';
  for (let at = 0; at < all.length;) {
    const token = all[at];
    if (token === undefined || token.text === '\n') {
      at++;
    } else if (token.text === '[') {
      const double = all[at + 1]?.text === '[';
      const [name, end] = readName(all, at + (double ? 2 : 1), ']');
      const count = counts.get(name) ?? 0;
      counts.set(name, count + 1);
      table = double ? `${name}[${count}]` : name;
      lines.set(table, token.line);
      if (!lines.has(name)) lines.set(name, token.line);
      at = end + (double ? 2 : 1);
    } else {
      const [name, end] = readName(all, at, '=');
      const field = table === '' ? name : `${table}.${name}`;
      lines.set(field, token.line);
      at = readValue(all, end + 1, field, lines);
    }
  }
  return { lineOf: (field) => nearestLine(lines, field) };
}

function nearestLine(lines: ReadonlyMap<string, number>, field: string): number {
  for (let name = field; name !== ''; name = name.replace(/(?:\.[^.[\]]*|\[\d+\]|[^.[\]]+)$/, '')) {
    const line = lines.get(name);
    if (line !== undefined) return line;
  }
  return 0;
}

function tokenize(text: string): Token[] {
  const found: Token[] = [];
  let line = 1;
  let counted = 0;
  for (const match of text.matchAll(tokens)) {
    for (; counted < match.index; counted++) if (text[counted] === '\n') line++;
    if (!match[0].startsWith('#')) found.push({ text: match[0], line });
  }
  return found;
}

/** A key up to `end`, without quotes. Returns the place of `end` too. */
function readName(all: readonly Token[], from: number, end: string): [string, number] {
  let name = '';
  let at = from;
  for (; at < all.length && all[at]?.text !== end; at++)
    name += (all[at]?.text ?? '').replaceAll(/^["']|["']$/g, '');
  return [name, at];
}

/** Notes the elements of an array, and returns the place behind the value. */
function readValue(all: readonly Token[], from: number, field: string, lines: Map<string, number>): number {
  const isArray = all[from]?.text === '[';
  let depth = 0;
  let element = 0;
  let at = from;
  for (; at < all.length; at++) {
    const { text, line } = all[at] ?? { text: '\n', line: 0 };
    if (text === '\n' && depth === 0) break;
    const isElement = isArray && depth === 1 && text !== ',' && text !== ']' && text !== '\n';
    if (isElement && !lines.has(`${field}[${element}]`)) lines.set(`${field}[${element}]`, line);
    if (text === ',' && depth === 1) element++;
    if (text === '[' || text === '{') depth++;
    if (text === ']' || text === '}') depth--;
  }
  return at;
}
