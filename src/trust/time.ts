/**
 * The moment that `text` names by RFC 3339 (`2026-01-31T12:00:00Z`, `…+02:00`, up to nine digits of fraction, of which
 * milliseconds are kept), or undefined. Dates that no calendar holds are refused, leap seconds too.
 */
export function parseTime(text: string): Date | undefined {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,9})?(?:Z|[+-]([01]\d|2[0-3]):[0-5]\d)$/.exec(
    text,
  );
  if (match === null) return undefined;
  const wall = `${match[1] ?? ''}T${match[2] ?? ''}`;
  // Date takes 31 February for 3 March; what it makes of the wall clock's time has to be that time again.
  const asUtc = new Date(`${wall}Z`);
  if (Number.isNaN(asUtc.getTime()) || !asUtc.toISOString().startsWith(wall)) return undefined;
  const date = new Date(text);
  return Number.isNaN(date.getTime()) ? undefined : date;
}

/** The moment as RFC 3339 writes it, in UTC, without a fraction where it has none. */
export function formatTime(time: Date): string {
  return time.toISOString().replace('.000Z', 'Z');
}
