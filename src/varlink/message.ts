import { ProtocolError } from './error.ts';
import { JsonError, formatPath, isJsonObject, parseJson, type JsonObject, type JsonValue } from './json.ts';

export type { JsonObject } from './json.ts';

/** What a client sends, https://varlink.org/Method-Call. */
export interface Call {
  /** The interface's name, a dot, and the method's name; not looked at further here. */
  readonly method: string;
  readonly parameters: JsonObject;
  /** Nobody answers, not even with an error. */
  readonly oneway: boolean;
  /** The client takes more than one reply. */
  readonly more: boolean;
  /** The client wants the connection for another protocol after the reply. */
  readonly upgrade: boolean;
  /**
   * The parameters are JSON that readers understand differently (a member twice, a number too large, too deep): where
   * and why. Such a call is answered with InvalidParameter; its parameters are not to be used.
   */
  readonly fault?: Fault;
}

/** What is wrong with the parameters of a call, and where (`image.name`, `stores[1]`). */
export interface Fault {
  readonly parameter: string;
  readonly reason: string;
}

/** What a service answers with. */
export interface Reply {
  readonly parameters: JsonObject;
  /** The whole name of the error, where it is one. */
  readonly error?: string;
  /** Further replies to the same call follow. */
  readonly continues: boolean;
}

/** Limits of what one message may hold. */
export interface MessageLimits {
  /** How deep objects and arrays may nest, the message itself counted. */
  readonly depthMax: number;
  /** How many values and brackets it may have; any number where this is left out. */
  readonly valuesMax?: number;
}

/** What holds unless told otherwise: sixteen levels are more than interfaces need, and bound recursion. */
export const messageLimits: MessageLimits = { depthMax: 16 };

/**
 * What holds for calls unless told otherwise. Looking at a value takes microseconds, and a message of a megabyte could
 * have half a million, for which everybody else would wait.
 */
export const callLimits: MessageLimits = { ...messageLimits, valuesMax: 4096 };

const noParameters: JsonObject = {};

/**
 * The call that a frame holds (without its NUL). Members that the protocol does not know are passed over, as systemd
 * does; null counts as left out. Throws ProtocolError and nothing else.
 */
export function parseCall(frame: Uint8Array, limits: MessageLimits = callLimits): Call {
  const { message, fault } = parseMessage(frame, limits);
  const method = message['method'];
  if (typeof method !== 'string') throw new ProtocolError('a call without a method');
  const oneway = flag(message, 'oneway');
  const more = flag(message, 'more');
  const upgrade = flag(message, 'upgrade');
  if (Number(oneway) + Number(more) + Number(upgrade) > 1) {
    throw new ProtocolError('more than one of oneway, more and upgrade');
  }
  const call = { method, parameters: parametersOf(message), oneway, more, upgrade };
  return fault === undefined ? call : { ...call, fault };
}

/**
 * The reply that a frame holds (without its NUL). Members that the protocol does not know are passed over; null counts
 * as left out. Throws ProtocolError and nothing else.
 */
export function parseReply(frame: Uint8Array, limits: MessageLimits = messageLimits): Reply {
  const { message, fault } = parseMessage(frame, limits);
  if (fault !== undefined) throw new ProtocolError(`the reply's ${fault.parameter} ${fault.reason}`);
  const error = message['error'] ?? undefined;
  if (error !== undefined && (typeof error !== 'string' || error === '')) {
    throw new ProtocolError('error is not the name of an error');
  }
  const reply = { parameters: parametersOf(message), continues: flag(message, 'continues') };
  if (error === undefined) return reply;
  if (reply.continues) throw new ProtocolError('an error that continues');
  return { ...reply, error };
}

/** The bytes of a call, the NUL at its end included. */
export function formatCall(call: Call): Uint8Array {
  const { method, parameters } = call;
  return formatMessage({
    method,
    parameters,
    ...(call.oneway && { oneway: true }),
    ...(call.more && { more: true }),
    ...(call.upgrade && { upgrade: true }),
  });
}

/** The bytes of a reply, the NUL at its end included. */
export function formatReply(reply: Reply): Uint8Array {
  const { error, parameters, continues } = reply;
  return formatMessage({
    ...(error !== undefined && { error }),
    parameters,
    ...(continues && { continues }),
  });
}

interface Message {
  readonly message: JsonObject;
  readonly fault: Fault | undefined;
}

function parseMessage(frame: Uint8Array, limits: MessageLimits): Message {
  let value: JsonValue;
  let fault: Fault | undefined;
  try {
    value = parseJson(frame, limits);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    // Only with a fault inside of the parameters it is clear which method is called, and how.
    const { path = [], reason } = error;
    const place = formatPath(path);
    if (error.value === undefined || path.length < 2 || path[0] !== 'parameters') {
      throw new ProtocolError(place === '' ? reason : `${place} ${reason}`);
    }
    value = error.value;
    fault = { parameter: formatPath(path.slice(1)), reason };
  }
  if (!isJsonObject(value)) throw new ProtocolError('a message that is no object');
  return { message: value, fault };
}

function parametersOf(message: JsonObject): JsonObject {
  const parameters = message['parameters'] ?? noParameters;
  if (!isJsonObject(parameters)) throw new ProtocolError('parameters that are no object');
  return parameters;
}

function flag(message: JsonObject, name: string): boolean {
  const value = message[name] ?? false;
  if (typeof value !== 'boolean') throw new ProtocolError(`${name} is neither true nor false`);
  return value;
}

function formatMessage(message: JsonObject): Uint8Array {
  return Buffer.from(`${JSON.stringify(message)}\0`);
}
