import { IdlError } from './idl-tokens.ts';
import type { Member, Type } from './interface.ts';

/**
 * Whether every type that is named is defined, and none holds a value of itself, which no finite message could. Throws
 * IdlError at `place` otherwise.
 */
export function checkReferences(
  members: readonly Member[],
  place: { readonly line: number; readonly column: number },
): void {
  const defined = new Map<string, Type>();
  for (const member of members) if (member.kind === 'type') defined.set(member.name, member.type);
  for (const member of members) {
    for (const type of typesOf(member)) {
      for (const name of references(type, 'all')) {
        if (!defined.has(name))
          throw new IdlError(place, `${member.name} uses the type ${name}, which is not defined`);
      }
    }
  }
  const done = new Set<string>();
  for (const name of defined.keys()) checkFinite(name, defined, done, place);
}

function typesOf(member: Member): readonly Type[] {
  switch (member.kind) {
    case 'type':
      return [member.type];
    case 'method':
      return [member.input, member.output];
    case 'error':
      return [member.parameters];
  }
}

/** The names that a type uses: all of them, or those of which each of its values holds one. */
function references(type: Type, which: 'all' | 'held'): string[] {
  switch (type.kind) {
    case 'reference':
      return [type.name];
    case 'struct':
      return type.fields.flatMap((field) => references(field.type, which));
    case 'array':
    case 'map':
    case 'nullable':
      return which === 'all' ? references(type.of, which) : [];
    case 'bool':
    case 'int':
    case 'float':
    case 'string':
    case 'object':
    case 'any':
    case 'enumeration':
      return [];
  }
}

/** Depth first with a stack of its own: there may be as many types as the text is long. */
function checkFinite(
  name: string,
  defined: ReadonlyMap<string, Type>,
  done: Set<string>,
  place: { readonly line: number; readonly column: number },
): void {
  const held = (of: string): string[] => {
    const type = defined.get(of);
    return type === undefined ? [] : references(type, 'held');
  };
  if (done.has(name)) return;
  const path = new Set([name]);
  const stack = [{ name, next: held(name) }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const next = top.next.pop();
    if (next === undefined) {
      path.delete(top.name);
      done.add(top.name);
      stack.pop();
    } else if (path.has(next)) {
      throw new IdlError(place, `the type ${next} holds itself`);
    } else if (!done.has(next)) {
      path.add(next);
      stack.push({ name: next, next: held(next) });
    }
  }
}
