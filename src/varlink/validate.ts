import { ProtocolError } from './error.ts';
import type { Field, Interface, Struct, Type } from './interface.ts';
import { formatPath, isJsonArray, isJsonObject, type JsonObject, type JsonValue } from './json.ts';
import { InvalidParameter, MethodNotFound } from './service.ts';

/** A value does not fit its type: where in it, from the outside in, and why. */
class Mismatch extends Error {
  readonly path: (string | number)[] = [];
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }
}

/** Returns the value, with null for what is optional left out; throws Mismatch where it does not fit. */
type Check = (value: JsonValue) => JsonValue;

/** Checks parameters against a struct: see `compileStruct`. */
export type ParametersCheck = (parameters: JsonObject) => JsonObject;

/** Whether members that the description does not know are refused or taken as they are. */
type Growth = 'strict' | 'open';

/** The checks of an interface. */
interface Checks {
  /** Strict: what a method takes, by the method's name. Throws InvalidParameter. */
  readonly calls: ReadonlyMap<string, ParametersCheck>;
  /** Open to growth: what a method answers, by the method's name. Throws ProtocolError. */
  readonly replies: ReadonlyMap<string, ParametersCheck>;
  /** Open to growth: what goes with an error, by its name. Throws ProtocolError. */
  readonly errors: ReadonlyMap<string, ParametersCheck>;
}

const compiled = new WeakMap<Interface, Checks>();

function checksOf(description: Interface): Checks {
  let checks = compiled.get(description);
  if (checks === undefined) {
    checks = compile(description);
    compiled.set(description, checks);
  }
  return checks;
}

function compile(description: Interface): Checks {
  const strict = new Compiler(description, 'strict');
  const open = new Compiler(description, 'open');
  const calls = new Map<string, ParametersCheck>();
  const replies = new Map<string, ParametersCheck>();
  const errors = new Map<string, ParametersCheck>();
  const misfit = (path: string, reason: string): Error => new ProtocolError(`the reply's ${path} ${reason}`);
  for (const member of description.members) {
    if (member.kind === 'error') errors.set(member.name, failing(open.struct(member.parameters), misfit));
    if (member.kind !== 'method') continue;
    calls.set(
      member.name,
      failing(strict.struct(member.input), (path, reason) => new InvalidParameter(path, reason)),
    );
    replies.set(member.name, failing(open.struct(member.output), misfit));
  }
  return { calls, replies, errors };
}

/**
 * The strict checks of what the methods of an interface take, by the method's name: compiled once, for who serves it.
 * They return the parameters with null for what is optional left out (the same object where there was none), and throw
 * InvalidParameter.
 */
export function callChecks(description: Interface): ReadonlyMap<string, ParametersCheck> {
  return checksOf(description).calls;
}

/**
 * The parameters of a call of `method` (its name in the interface), which fit the description exactly; null for what is
 * optional is left out. Throws InvalidParameter with the parameter and the reason, and MethodNotFound.
 */
export function validateCall(description: Interface, method: string, parameters: JsonObject): JsonObject {
  const check = checksOf(description).calls.get(method);
  if (check === undefined) throw new MethodNotFound(`${description.name}.${method}`);
  return check(parameters);
}

/**
 * The parameters of a reply to `method`: what the description knows has its type, and what it does not know is kept, so
 * that services can grow. Throws ProtocolError, and MethodNotFound.
 */
export function validateReply(description: Interface, method: string, parameters: JsonObject): JsonObject {
  const check = checksOf(description).replies.get(method);
  if (check === undefined) throw new MethodNotFound(`${description.name}.${method}`);
  return check(parameters);
}

/** Whether the parameters of an error that came are those of the description; what it does not know is let pass. */
export function fitsError(description: Interface, error: string, parameters: JsonObject): boolean {
  try {
    checksOf(description).errors.get(error)?.(parameters);
    return true;
  } catch (misfit) {
    if (misfit instanceof ProtocolError) return false;
    throw misfit;
  }
}

function failing(check: ParametersCheck, failure: (path: string, reason: string) => Error): ParametersCheck {
  return (parameters) => {
    try {
      return check(parameters);
    } catch (error) {
      if (!(error instanceof Mismatch)) throw error;
      throw failure(formatPath(error.path), error.reason);
    }
  };
}

class Compiler {
  readonly #growth: Growth;
  readonly #types = new Map<string, Type>();
  /** Of named types, filled in as they are met, so that a type may refer to itself. */
  readonly #named = new Map<string, Check>();

  constructor(description: Interface, growth: Growth) {
    this.#growth = growth;
    for (const member of description.members) {
      if (member.kind === 'type') this.#types.set(member.name, member.type);
    }
  }

  struct(struct: Struct): ParametersCheck {
    const fields = new Map(struct.fields.map((field) => [field.name, this.#field(field)]));
    const required = struct.fields.filter((field) => field.type.kind !== 'nullable').map(({ name }) => name);
    const open = this.#growth === 'open';
    return (value) => {
      let changed: Record<string, JsonValue> | undefined;
      let found = 0;
      for (const key of Object.keys(value)) {
        const field = fields.get(key);
        if (field === undefined) {
          if (open) continue;
          throw at(new Mismatch('is not known here'), key);
        }
        const member = value[key] ?? null;
        if (field.required) found++;
        const result = member === null && !field.required ? null : within(field.check, member, key);
        if (result === member && result !== null) continue;
        // A copy of own members: nothing here is ever called __proto__, and spreading takes such a one as data.
        changed ??= { ...value };
        if (result === null) Reflect.deleteProperty(changed, key);
        else changed[key] = result;
      }
      if (found < required.length) throw missing(value, required);
      return changed ?? value;
    };
  }

  #field(field: Field): { readonly required: boolean; readonly check: Check } {
    return field.type.kind === 'nullable'
      ? { required: false, check: this.#check(field.type.of) }
      : { required: true, check: this.#check(field.type) };
  }

  #check(type: Type): Check {
    switch (type.kind) {
      case 'bool':
        return (value) => (typeof value === 'boolean' ? value : wrong('true or false', value));
      case 'int':
        return checkInteger;
      case 'float':
        return (value) => (typeof value === 'number' ? value : wrong('a number', value));
      case 'string':
        return (value) => (typeof value === 'string' ? value : wrong('a string', value));
      case 'object':
        return (value) => (isJsonObject(value) ? value : wrong('an object', value));
      case 'any':
        return (value) => value ?? wrong('a value', value);
      case 'nullable': {
        const check = this.#check(type.of);
        return (value) => (value === null ? null : check(value));
      }
      case 'array':
        return checkArray(this.#check(type.of));
      case 'map':
        return checkMap(this.#check(type.of));
      case 'struct': {
        const check = this.struct(type);
        return (value) => (isJsonObject(value) ? check(value) : wrong('an object', value));
      }
      case 'enumeration':
        return checkEnumeration(type.values.map(({ name }) => name));
      case 'reference':
        return this.#reference(type.name);
    }
  }

  #reference(name: string): Check {
    const type = this.#types.get(name);
    if (type === undefined) throw new TypeError(`a type that is not defined: ${name}`);
    if (!this.#named.has(name)) {
      this.#named.set(name, (value) => this.#resolved(name)(value));
      this.#named.set(name, this.#check(type));
    }
    return this.#resolved(name);
  }

  #resolved(name: string): Check {
    const check = this.#named.get(name);
    if (check === undefined) throw new TypeError(`a type that is not compiled: ${name}`);
    return check;
  }
}

function checkInteger(value: JsonValue): JsonValue {
  if (typeof value !== 'number') return wrong('a whole number', value);
  if (Number.isSafeInteger(value)) return value;
  throw new Mismatch(Number.isInteger(value) ? 'is beyond ±(2^53 - 1)' : 'is not a whole number');
}

function checkEnumeration(names: readonly string[]): Check {
  const known = new Set(names);
  return (value) => {
    if (typeof value !== 'string') return wrong('a string', value);
    if (known.has(value)) return value;
    throw new Mismatch(`is not one of ${names.join(', ')}`);
  };
}

function checkArray(check: Check): Check {
  return (value) => {
    if (!isJsonArray(value)) return wrong('an array', value);
    let changed: JsonValue[] | undefined;
    for (let i = 0; i < value.length; i++) {
      const element = value[i] ?? null;
      const result = within(check, element, i);
      if (result !== element) (changed ??= [...value])[i] = result;
    }
    return changed ?? value;
  };
}

function checkMap(check: Check): Check {
  return (value) => {
    if (!isJsonObject(value)) return wrong('an object', value);
    const members = Object.entries(value);
    const results = members.map(([key, member]) => within(check, member, key));
    if (results.every((result, index) => result === members[index]?.[1])) return value;
    // fromEntries makes a member called __proto__ a member.
    return Object.fromEntries(members.map(([key], index) => [key, results[index] ?? null]));
  };
}

function within(check: Check, value: JsonValue, step: string | number): JsonValue {
  try {
    return check(value);
  } catch (error) {
    if (error instanceof Mismatch) at(error, step);
    throw error;
  }
}

function at(mismatch: Mismatch, step: string | number): Mismatch {
  mismatch.path.unshift(step);
  return mismatch;
}

function missing(value: JsonObject, required: readonly string[]): Mismatch {
  const name = required.find((name) => !Object.hasOwn(value, name)) ?? '';
  return at(new Mismatch('is missing'), name);
}

function wrong(wanted: string, value: JsonValue): never {
  throw new Mismatch(`is not ${wanted} but ${nameOf(value)}`);
}

function nameOf(value: JsonValue): string {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return 'a string';
  if (typeof value === 'number') return 'a number';
  return isJsonArray(value) ? 'an array' : 'an object';
}
