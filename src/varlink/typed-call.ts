import type { Answer, Client } from './client.ts';
import { VarlinkError } from './error.ts';
import type { Interface } from './interface.ts';
import type { JsonObject } from './json.ts';
import { fitsError, validateReply } from './validate.ts';

/** Makes the errors of an interface, by their names in it, from parameters that fit the description. */
export type ErrorClasses = Readonly<Record<string, (parameters: JsonObject) => VarlinkError>>;

/**
 * Calls a method of an interface for a generated client. The reply fits the description, open to growth; an error of
 * the interface is made by `errors` where it fits, and stays a VarlinkError otherwise. Rejects with ProtocolError where
 * the reply does not fit; its descriptors are closed then.
 */
export async function callMethod(
  client: Client,
  description: Interface,
  method: string,
  parameters: JsonObject,
  fds: readonly number[],
  errors: ErrorClasses,
): Promise<Answer> {
  let answer: Answer;
  try {
    answer = await client.call(`${description.name}.${method}`, parameters, fds);
  } catch (error) {
    throw error instanceof VarlinkError ? known(error, description, errors) : error;
  }
  try {
    return { parameters: validateReply(description, method, answer.parameters), fds: answer.fds };
  } catch (error) {
    client.discard(answer.fds);
    throw error;
  }
}

function known(error: VarlinkError, description: Interface, errors: ErrorClasses): VarlinkError {
  const dot = error.name.lastIndexOf('.');
  if (error.name.slice(0, dot) !== description.name) return error;
  const name = error.name.slice(dot + 1);
  const make = Object.hasOwn(errors, name) ? errors[name] : undefined;
  if (make === undefined || !fitsError(description, name, error.parameters)) return error;
  return make(error.parameters);
}
