import { foreignText } from '../base/foreign-text.ts';

/** Levels of arrays and objects; a statement has five. */
const depthMax = 16;

/** Values, members and brackets of one text; an envelope of sixteen signatures has some hundred. Each costs microseconds. */
const tokensMax = 2048;

/** The text is not the JSON that is wanted; the message says why and where. */
export class JsonInvalid extends Error {
  override readonly name = 'JsonInvalid';
}

/**
 * The value of a JSON text in UTF-8. Stricter than JSON.parse where readers of JSON differ, so that what was signed
 * means the same to everybody: no member twice in an object, only whole numbers, no bytes that are not UTF-8, no byte
 * order mark, no deep nesting. Throws JsonInvalid.
 */
export function parseStrictJson(bytes: Uint8Array): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    throw new JsonInvalid(error instanceof SyntaxError ? 'a syntax error' : 'not UTF-8');
  }
  checkMembersAndNumbers(text);
  return value;
}

/** Walks a text that JSON.parse has taken: only strings, numbers and brackets need a look. */
function checkMembersAndNumbers(text: string): void {
  // A set of the members seen for each open object, undefined for each open array.
  const open: (Set<string> | undefined)[] = [];
  let tokens = 0;
  for (const match of text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?|[{}[\]]|-?\d[\d.eE+-]*/g)) {
    const [token, colon] = match;
    if (++tokens > tokensMax) throw new JsonInvalid(`more than ${tokensMax} values and brackets`);
    if (token === '{' || token === '[') {
      open.push(token === '{' ? new Set() : undefined);
      if (open.length > depthMax) throw new JsonInvalid(`nested deeper than ${depthMax} levels`);
    } else if (token === '}' || token === ']') {
      open.pop();
    } else if (colon !== undefined) {
      const name = String(JSON.parse(token.slice(0, -colon.length)));
      const seen = open.at(-1);
      if (seen?.has(name) === true) throw new JsonInvalid(`the member "${foreignText(name)}" is there twice`);
      seen?.add(name);
    } else if (!token.startsWith('"') && !/^-?\d+$/.test(token)) {
      throw new JsonInvalid('a number that is not whole');
    }
  }
}
