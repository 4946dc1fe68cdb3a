/**
 * The text without what would act on a terminal or a log in place of being read: control and format characters (escape sequences,
 * writing from right to left), line ends, halves of characters. Each becomes U+FFFD.
 */
export function withoutControls(text: string): string {
  return text.replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '\uFFFD');
}

/** Text of somebody else's, such as a member of a signature file, for a message: so much of it, without controls. */
export function foreignText(text: string, charactersMax = 64): string {
  return withoutControls(text.slice(0, charactersMax));
}
