/**
 * Varlink (https://varlink.org) as a library: descriptions, messages, a server and a client, with file descriptors that
 * travel beside messages. None of it does I/O; a transport hands bytes and descriptors in and out.
 *
 * A service: parse each interface's description, give its methods, and hand in the calls of a connection one by one.
 *
 * ```ts
 * const text = 'interface org.example.Echo\nmethod Echo(text: string) -> (text: string)\n';
 * const server = new Server<undefined>(
 *   { vendor: 'Example', product: 'Echo', version: '1', url: 'https://example.org' },
 *   [{ description: parseInterface(text), text, methods: { Echo: ({ text }) => ({ parameters: { text: text ?? '' } }) } }],
 *   { onBug: report, discard: closeAll },
 * );
 * const frames = new Frames({ messageBytesMax: 1024 * 1024, descriptorsMax: 16 });
 * frames.push(bytes, fds); // as they arrive; ProtocolError ends the connection
 * for (let next = frames.next(); next !== undefined; next = frames.next()) {
 *   await server.handle(parseCall(next.frame), undefined, (reply, fds) => write(formatReply(reply), fds));
 * }
 * ```
 *
 * A client: give it a Transport, and call. Errors of the service are VarlinkErrors.
 *
 * ```ts
 * const client = new Client(transport);
 * const { parameters } = await client.call('org.example.Echo.Echo', { text: 'hello' });
 * for await (const { parameters } of client.more('org.example.Clock.Tick', {})) print(parameters);
 * ```
 *
 * `generate` writes types, error classes, handlers and a client in TypeScript from a description.
 */
export { ProtocolError, VarlinkError } from './error.ts';
export {
  isJsonArray,
  isJsonObject,
  parseJson,
  JsonError,
  formatPath,
  type JsonObject,
  type JsonPath,
  type JsonValue,
} from './json.ts';
export {
  callLimits,
  formatCall,
  formatReply,
  messageLimits,
  parseCall,
  parseReply,
  type Call,
  type Fault,
  type MessageLimits,
  type Reply,
} from './message.ts';
export { Frames, type Frame, type FrameLimits } from './frames.ts';
export type {
  Enumeration,
  EnumerationValue,
  ErrorMember,
  Field,
  Interface,
  Layout,
  Member,
  MethodMember,
  Struct,
  Type,
  TypeMember,
} from './interface.ts';
export { IdlError } from './idl-tokens.ts';
export { parseInterface } from './idl.ts';
export { formatInterface } from './idl-format.ts';
export { generate, type GenerateOptions } from './generate.ts';
export { fitsError, validateCall, validateReply } from './validate.ts';
export {
  ExpectedMore,
  InterfaceNotFound,
  InvalidParameter,
  MethodNotFound,
  MethodNotImplemented,
  PermissionDenied,
  serviceInterface,
  serviceName,
  serviceText,
  type ServiceInfo,
} from './service.ts';
export {
  Server,
  type Invocation,
  type MethodAnswer,
  type MethodHandler,
  type Send,
  type ServedInterface,
  type ServerOptions,
  type TypedHandler,
} from './server.ts';
export {
  Client,
  clientLimits,
  type Answer,
  type ClientLimits,
  type Receiver,
  type Transport,
} from './client.ts';
export { callMethod, type ErrorClasses } from './typed-call.ts';
