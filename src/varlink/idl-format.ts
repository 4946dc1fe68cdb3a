import type { Enumeration, Field, Interface, Layout, Member, Struct, Type } from './interface.ts';

/**
 * The text of a description: two spaces for each level, comments above what they are about, lists in lines of their own
 * where they were so or hold comments. `parseInterface` of it gives the same description again.
 */
export function formatInterface(description: Interface): string {
  const parts = [...commentLines(description.comments, ''), `interface ${description.name}`];
  for (const member of description.members) {
    if (member.apart) parts.push('');
    parts.push(...commentLines(member.comments, ''), formatMember(member));
  }
  parts.push(...commentLines(description.commentsAtEnd, ''));
  return parts.map((line) => `${line}\n`).join('');
}

function formatMember(member: Member): string {
  switch (member.kind) {
    case 'type':
      return `type ${member.name} ${formatList(member.type, '')}`;
    case 'error':
      return `error ${member.name} ${formatList(member.parameters, '')}`;
    case 'method':
      return `method ${member.name}${formatList(member.input, '')} -> ${formatList(member.output, '')}`;
  }
}

function formatList(list: Struct | Enumeration, indent: string): string {
  const inner = `${indent}  `;
  const elements: readonly { text: string; comments: readonly string[] }[] =
    list.kind === 'struct'
      ? list.fields.map((field) => ({ text: formatField(field, inner), comments: field.comments }))
      : list.values.map(({ name, comments }) => ({ text: name, comments }));
  if (!needsLines(elements, list.layout)) return `(${elements.map(({ text }) => text).join(', ')})`;
  const lines: string[] = [];
  elements.forEach(({ text, comments }, index) => {
    lines.push(
      ...commentLines(comments, inner),
      `${inner}${text}${index === elements.length - 1 ? '' : ','}`,
    );
  });
  lines.push(...commentLines(list.layout.commentsAtEnd, inner));
  return `(\n${lines.join('\n')}\n${indent})`;
}

function needsLines(elements: readonly { comments: readonly string[] }[], layout: Layout): boolean {
  if (layout.commentsAtEnd.length > 0 || elements.some(({ comments }) => comments.length > 0)) return true;
  return layout.lines && elements.length > 0;
}

function formatField(field: Field, indent: string): string {
  return `${field.name}: ${formatType(field.type, indent)}`;
}

function formatType(type: Type, indent: string): string {
  switch (type.kind) {
    case 'reference':
      return type.name;
    case 'nullable':
      return `?${formatType(type.of, indent)}`;
    case 'array':
      return `[]${formatType(type.of, indent)}`;
    case 'map':
      return `[string]${formatType(type.of, indent)}`;
    case 'struct':
    case 'enumeration':
      return formatList(type, indent);
    case 'bool':
    case 'int':
    case 'float':
    case 'string':
    case 'object':
    case 'any':
      return type.kind;
  }
}

function commentLines(comments: readonly string[], indent: string): string[] {
  return comments.map((comment) => `${indent}#${comment}`);
}
