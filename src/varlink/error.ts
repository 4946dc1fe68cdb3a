import type { JsonObject } from './json.ts';

/**
 * What a peer sent is no message of the protocol: not JSON, not framed, over a limit, or a reply that does not fit its
 * description. The connection cannot go on, since nothing says where the next message begins or what it answers.
 */
export class ProtocolError extends Error {
  /** One clause that says what is wrong, without the peer's own text. */
  readonly reason: string;

  constructor(reason: string) {
    super(`varlink: ${reason}`);
    this.name = 'ProtocolError';
    this.reason = reason;
  }
}

/**
 * An error of a varlink interface: thrown by a method's handler it becomes the reply; to a client it is the reply.
 * `name` is the whole name (`org.example.Interface.Error`), `parameters` what goes with it.
 */
export class VarlinkError extends Error {
  override readonly name: string;
  readonly parameters: JsonObject;

  constructor(name: string, parameters: JsonObject) {
    super(messageOf(name, parameters));
    this.name = name;
    this.parameters = parameters;
  }
}

function messageOf(name: string, parameters: JsonObject): string {
  const { reason, ...others } = parameters;
  const details = Object.entries(others).map(([key, value]) => `${key} ${JSON.stringify(value)}`);
  const end = reason === undefined ? '' : `: ${typeof reason === 'string' ? reason : JSON.stringify(reason)}`;
  return `${name}${details.length === 0 ? '' : ` (${details.join(', ')})`}${end}`;
}
