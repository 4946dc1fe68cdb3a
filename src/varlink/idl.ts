import { IdlError, tokenize, type Token } from './idl-tokens.ts';
import type {
  Enumeration,
  EnumerationValue,
  Field,
  Interface,
  Layout,
  Member,
  Struct,
  Type,
} from './interface.ts';
import { checkReferences } from './idl-references.ts';

/** How deep types may nest: descriptions come from services that nobody need trust. */
const depthMax = 32;

const interfaceName = /^[A-Za-z](?:-*[A-Za-z0-9])*(?:\.[A-Za-z0-9](?:-*[A-Za-z0-9])*)+$/;
const memberName = /^[A-Z][A-Za-z0-9]*$/;
const fieldName = /^[A-Za-z](?:_?[A-Za-z0-9])*$/;
const builtIn = ['bool', 'int', 'float', 'string', 'object', 'any'] as const;

/**
 * Parses the description of an interface, https://varlink.org/Interface-Definition, with systemd's `any`. Comments and
 * the division into lines are kept, so that `formatInterface` writes a tidy text as it was. Throws IdlError and nothing
 * else: on bad syntax, on names given twice, on types that are not defined or hold themselves.
 */
export function parseInterface(text: string): Interface {
  return new Parser(tokenize(text)).interface();
}

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  interface(): Interface {
    const { comments } = this.#word('interface');
    const name = this.#name(interfaceName, 'the name of an interface');
    const members: Member[] = [];
    const names = new Set<string>();
    while (this.#peek().text !== '') {
      const token = this.#peek();
      const member = this.#member();
      if (names.has(member.name)) throw new IdlError(token, `${member.name} is defined twice`);
      names.add(member.name);
      members.push(member);
    }
    checkReferences(members, this.#peek());
    return { name, comments, members, commentsAtEnd: this.#peek().comments };
  }

  #member(): Member {
    const token = this.#take();
    const { comments, apart } = token;
    const kind = token.text;
    if (kind !== 'type' && kind !== 'method' && kind !== 'error') {
      throw new IdlError(token, 'expected type, method or error');
    }
    if (!token.onNewLine) throw new IdlError(token, `${kind} does not begin a line`);
    const name = this.#name(memberName, `the name of the ${kind}, which begins with a capital letter`);
    const base = { name, comments, apart };
    if (kind === 'type') return { kind, ...base, type: this.#list(0) };
    const first = this.#struct(0);
    if (kind === 'error') return { kind, ...base, parameters: first };
    this.#word('->');
    return { kind, ...base, input: first, output: this.#struct(0) };
  }

  #struct(depth: number): Struct {
    const token = this.#peek();
    const list = this.#list(depth);
    if (list.kind !== 'struct') throw new IdlError(token, 'expected fields, each with a type');
    return list;
  }

  /** What is between parentheses: fields if the first has a colon, else the values of an enumeration. */
  #list(depth: number): Struct | Enumeration {
    this.#word('(');
    const fields: Field[] = [];
    const values: EnumerationValue[] = [];
    const names = new Set<string>();
    const lines = this.#peek().onNewLine;
    while (this.#peek().text !== ')') {
      const token = this.#peek();
      const name = this.#name(fieldName, 'a name');
      if (names.has(name)) throw new IdlError(token, `${name} is given twice`);
      names.add(name);
      const typed = this.#peek().text === ':';
      if (names.size > 1 && typed !== fields.length > 0) {
        throw new IdlError(token, 'some names have a type and some have none');
      }
      if (typed) {
        this.#take();
        fields.push({ name, type: this.#type(depth + 1), comments: token.comments });
      } else {
        values.push({ name, comments: token.comments });
      }
      if (this.#peek().text !== ',') break;
      this.#take();
      if (this.#peek().text === ')') throw new IdlError(this.#peek(), 'a comma after the last name');
    }
    const layout: Layout = { lines, commentsAtEnd: this.#word(')').comments };
    return values.length > 0 ? { kind: 'enumeration', values, layout } : { kind: 'struct', fields, layout };
  }

  #type(depth: number): Type {
    const token = this.#peek();
    if (depth > depthMax) throw new IdlError(token, `types nest deeper than ${depthMax}`);
    if (token.text === '(') return this.#list(depth);
    this.#take();
    if (token.text === '?') {
      if (this.#peek().text === '?') throw new IdlError(this.#peek(), 'a second ?');
      return { kind: 'nullable', of: this.#type(depth + 1) };
    }
    if (token.text === '[') {
      const key = this.#take();
      if (key.text === ']') return { kind: 'array', of: this.#type(depth + 1) };
      if (key.text !== 'string') throw new IdlError(key, 'expected ] or string');
      this.#word(']');
      return { kind: 'map', of: this.#type(depth + 1) };
    }
    const kind = builtIn.find((name) => name === token.text);
    if (kind !== undefined) return { kind };
    if (!memberName.test(token.text)) throw new IdlError(token, 'expected a type');
    return { kind: 'reference', name: token.text };
  }

  #peek(): Token {
    const token = this.#tokens[this.#at];
    if (token === undefined) throw new RangeError('read past the end of the tokens');
    return token;
  }

  #take(): Token {
    const token = this.#peek();
    if (token.text === '') throw new IdlError(token, 'the text ends too early');
    this.#at++;
    return token;
  }

  #word(text: string): Token {
    if (this.#peek().text !== text) throw new IdlError(this.#peek(), `expected ${text}`);
    return this.#take();
  }

  #name(form: RegExp, what: string): string {
    const token = this.#take();
    if (!form.test(token.text)) throw new IdlError(token, `expected ${what}`);
    return token.text;
  }
}
