declare const brand: unique symbol;

/** A value that may not be mixed with others of its type; each brand has one constructor. */
export type Brand<Type, Name extends string> = Type & { readonly [brand]: Name };
