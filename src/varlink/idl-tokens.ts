/** A description that is not in varlink's interface description language, or contradicts itself. */
export class IdlError extends Error {
  /** Where, both from 1. */
  readonly line: number;
  readonly column: number;
  readonly reason: string;

  constructor(place: { readonly line: number; readonly column: number }, reason: string) {
    super(`line ${place.line}, column ${place.column}: ${reason}`);
    this.name = 'IdlError';
    this.line = place.line;
    this.column = place.column;
    this.reason = reason;
  }
}

/** A word or a sign of a description, with what is between it and the one before. */
export interface Token {
  /** The word or the sign; empty at the end of the text. */
  readonly text: string;
  readonly line: number;
  readonly column: number;
  /** The comment lines before it, each without its `#`. */
  readonly comments: readonly string[];
  /** It is on another line than the token before it. */
  readonly onNewLine: boolean;
  /** An empty line is before it and its comments. */
  readonly apart: boolean;
}

const pattern =
  /(?<space>[ \t]+)|(?<line>\r?\n)|#(?<comment>[^\r\n]*)|(?<word>[A-Za-z0-9_][A-Za-z0-9_.]*(?:-+[A-Za-z0-9_.]+)*)|(?<sign>->|[()[\]:,?])/y;

/** The tokens of `text`; the last one is empty. Throws IdlError at a character that the language does not have. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let line = 1;
  let lineStart = 0;
  let comments: string[] = [];
  let breaks = 0;
  let apart = false;
  const add = (word: string, offset: number): void => {
    tokens.push({ text: word, line, column: offset - lineStart + 1, comments, onNewLine: breaks > 0, apart });
    comments = [];
    breaks = 0;
    apart = false;
  };
  for (let at = 0; at < text.length; at = pattern.lastIndex) {
    pattern.lastIndex = at;
    const groups = pattern.exec(text)?.groups;
    if (groups === undefined) {
      throw new IdlError({ line, column: at - lineStart + 1 }, 'a character that is not of the language');
    }
    const token = groups['word'] ?? groups['sign'];
    if (token !== undefined) add(token, at);
    else if (groups['comment'] !== undefined) comments.push(groups['comment']);
    else if (groups['line'] !== undefined) {
      breaks++;
      if (comments.length === 0 && breaks > 1) apart = true;
      line++;
      lineStart = pattern.lastIndex;
    }
  }
  add('', text.length);
  return tokens;
}
