/** A type of varlink's interface description language, https://varlink.org/Interface-Definition. */
export type Type =
  | { readonly kind: 'bool' | 'int' | 'float' | 'string' | 'object' | 'any' }
  | { readonly kind: 'array' | 'map' | 'nullable'; readonly of: Type }
  | { readonly kind: 'reference'; readonly name: string }
  | Struct
  | Enumeration;

/** Named fields. */
export interface Struct {
  readonly kind: 'struct';
  readonly fields: readonly Field[];
  readonly layout: Layout;
}

/** Names, one of which the value is. */
export interface Enumeration {
  readonly kind: 'enumeration';
  readonly values: readonly EnumerationValue[];
  readonly layout: Layout;
}

/** How a list between parentheses is written. */
export interface Layout {
  /** Each element has a line of its own. */
  readonly lines: boolean;
  /** Comments between the last element and the closing parenthesis. */
  readonly commentsAtEnd: readonly string[];
}

/** A field of a struct. `comments` are the comment lines before it, each without its `#`. */
export interface Field {
  readonly name: string;
  readonly type: Type;
  readonly comments: readonly string[];
}

/** A value of an enumeration. */
export interface EnumerationValue {
  readonly name: string;
  readonly comments: readonly string[];
}

interface MemberBase {
  readonly name: string;
  /** The comment lines before it, each without its `#`. */
  readonly comments: readonly string[];
  /** An empty line sets it apart from what is before it. */
  readonly apart: boolean;
}

/** A name for a struct or an enumeration. */
export interface TypeMember extends MemberBase {
  readonly kind: 'type';
  readonly type: Struct | Enumeration;
}

/** A method: what it takes and what it answers. */
export interface MethodMember extends MemberBase {
  readonly kind: 'method';
  readonly input: Struct;
  readonly output: Struct;
}

/** An error and what goes with it. */
export interface ErrorMember extends MemberBase {
  readonly kind: 'error';
  readonly parameters: Struct;
}

/** What an interface is made of. */
export type Member = TypeMember | MethodMember | ErrorMember;

/** The description of an interface. */
export interface Interface {
  readonly name: string;
  readonly comments: readonly string[];
  readonly members: readonly Member[];
  readonly commentsAtEnd: readonly string[];
}
