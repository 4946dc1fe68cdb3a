/** Collects the values of an option that may be given more than once; without it the option is undefined. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value];
}

/** What commander has to say of a wrong command line, as one line of the program `name`. */
export function usageError(name: string, text: string): string {
  return text.replace(/^error: /, `${name}: `).replace(/\n\(Did you mean/, ' (did you mean');
}
