import type { Brand } from '../base/brand.ts';
import { isPathOfSegments } from '../trust/statement.ts';
import { FieldInvalid } from './fault.ts';

/** A pattern of signed names: `*` stands for any characters of a segment, `**` for any characters at all, `/` too. */
export type NamePattern = Brand<string, 'NamePattern'>;

/**
 * The pattern that `text` writes. Throws FieldInvalid unless it is at most 255 bytes, and a signed
 * name once every run of stars is replaced by a letter.
 */
export function parsePattern(text: string): NamePattern {
  if (/\*{3}/.test(text))
    throw new FieldInvalid('holds three stars in a row; "*" and "**" are the only wildcards');
  if (!isPathOfSegments(text.replaceAll(/\*+/g, 'x'), 'signed') || text.length > 255) {
    throw new FieldInvalid(
      `"${text.slice(0, 64)}" is no pattern of names: at most 255 bytes of segments of [A-Za-z0-9._@+:-] and stars, joined by "/"`,
    );
  }
  return text as NamePattern;
}

/**
 * Whether the pattern stands for the whole name. Takes time in proportion to both lengths multiplied, whatever the
 * stars: the set of places in the pattern that the name read so far can reach is carried along, and nothing is tried twice.
 */
export function matchesPattern(pattern: NamePattern, name: string): boolean {
  const star = pattern.indexOf('*');
  if (star < 0) return pattern === name;
  // Nearly all patterns are a prefix and one star at the end: those are asked on the way of every mount.
  if (!name.startsWith(pattern.slice(0, star))) return false;
  const [rest, tail] = [pattern.slice(star), name.slice(star)];
  if (rest === '**') return true;
  return rest === '*' ? !tail.includes('/') : matchesTokens(rest, tail);
}

/** Whether every name that `narrow` stands for is one that `wide` stands for. Only what is certain is found: true is always right. */
export function coversPattern(wide: NamePattern, narrow: NamePattern): boolean {
  return matchesTokens(wide, tokensOf(narrow));
}

/** Whether some name fits both patterns. False is always right; true may rest on a name that nobody can sign, such as "a//b". */
export function patternsMeet(a: NamePattern, b: NamePattern): boolean {
  const [left, right] = [tokensOf(a), tokensOf(b)];
  const width = right.length + 1;
  // Pairs of places, as one number each, that some beginning of a name can reach in both.
  const reached = new Set([0]);
  for (const pair of reached) {
    const [i, j] = [Math.floor(pair / width), pair % width];
    const [one, other] = [left[i], right[j]];
    if (one === undefined && other === undefined) return true;
    if (one?.startsWith('*') === true) reached.add(pair + width);
    if (other?.startsWith('*') === true) reached.add(pair + 1);
    if (one === undefined || other === undefined) continue;
    if (one === other) reached.add(pair + width + 1);
    else if (takes(one, other)) reached.add(pair + 1);
    else if (takes(other, one)) reached.add(pair + width);
  }
  return false;
}

function tokensOf(pattern: string): readonly string[] {
  return pattern.match(/\*\*|\*|[^*]/g) ?? [];
}

/** Whether a star stands for a character, or for all that another star does. */
function takes(star: string, token: string): boolean {
  return star === '**' || (star === '*' && token !== '/' && token !== '**');
}

/** `name` gives the characters of a name, or the tokens of a pattern. */
function matchesTokens(pattern: string, name: Iterable<string>): boolean {
  const tokens = tokensOf(pattern);
  let reached = skipStars(tokens, new Set([0]));
  for (const character of name) {
    const next = new Set<number>();
    for (const place of reached) {
      const token = tokens[place];
      if (token !== undefined && takes(token, character)) next.add(place);
      else if (token === character) next.add(place + 1);
    }
    if (next.size === 0) return false;
    reached = skipStars(tokens, next);
  }
  return reached.has(tokens.length);
}

/** The places, and those behind the stars on them: a star stands for nothing too. */
function skipStars(tokens: readonly string[], places: Set<number>): Set<number> {
  for (const place of places) {
    if (tokens[place]?.startsWith('*') === true) places.add(place + 1); // a Set's iteration reaches what is added to it
  }
  return places;
}
