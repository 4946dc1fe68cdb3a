import { VarlinkError } from './error.ts';
import type { Interface } from './interface.ts';
import type { Call, JsonObject, Reply } from './message.ts';
import {
  ExpectedMore,
  InterfaceNotFound,
  InvalidParameter,
  MethodNotFound,
  MethodNotImplemented,
  infoReply,
  serviceInterface,
  serviceName,
  serviceText,
  type ServiceInfo,
} from './service.ts';
import { callChecks, type ParametersCheck } from './validate.ts';

/** What a method answers with; the descriptors pass to whoever sends the reply. */
export interface MethodAnswer<Parameters extends JsonObject = JsonObject> {
  readonly parameters: Parameters;
  /** Parameters that are descriptors are indices into these. */
  readonly fds?: readonly number[];
}

/** How a method was called. */
export interface Invocation<Parameters extends JsonObject = JsonObject> {
  /** The client takes more than one reply. */
  readonly more: boolean;
  /** Nobody will get an answer. */
  readonly oneway: boolean;
  /** Sends a reply that others follow. Throws ExpectedMore where the client takes only one. */
  readonly sendContinues: (parameters: Parameters, fds?: readonly number[]) => void;
}

/**
 * Answers the calls of a method. The parameters fit the interface's description, with null for what is optional left
 * out. A VarlinkError that it throws is the reply; anything else is a bug. Descriptors that came with the call are a
 * matter of the transport, which hands them over in the context and closes those that the handler has not taken.
 */
export type MethodHandler<Context> = {
  // A method's parameters are compared loosely, so that generated handlers, with exact parameters, fit here.
  handler(
    parameters: JsonObject,
    context: Context,
    invocation: Invocation,
  ): Promise<MethodAnswer> | MethodAnswer;
}['handler'];

/** A handler whose parameters and answers have the types of a generated file. */
export type TypedHandler<Context, Parameters extends JsonObject, Answered extends JsonObject> = (
  parameters: Parameters,
  context: Context,
  invocation: Invocation<Answered>,
) => Promise<MethodAnswer<Answered>> | MethodAnswer<Answered>;

/** An interface that is served: its description, parsed and as text, and its methods by name. */
export interface ServedInterface<Context> {
  readonly description: Interface;
  readonly text: string;
  /** A method of the description that is not here answers MethodNotImplemented. */
  readonly methods: Readonly<Record<string, MethodHandler<Context>>>;
}

/** What a server needs of its transport. */
export interface ServerOptions {
  /** Told of what a handler threw that is no VarlinkError. */
  readonly onBug: (error: unknown, method: string) => void;
  /** What the peer is told then. Left out, `handle` rejects, and the connection is to be ended. */
  readonly bugError?: VarlinkError;
  /** Takes over the descriptors of answers that nobody gets, because the call was oneway. */
  readonly discard: (fds: readonly number[]) => void;
}

/** Takes a reply and its descriptors, to be sent in the order of the calls of this function. */
export type Send = (reply: Reply, fds: readonly number[]) => void;

interface ServedMethod<Context> {
  readonly check: ParametersCheck;
  readonly handler: MethodHandler<Context> | undefined;
}

const noFds: readonly number[] = [];

/**
 * Serves interfaces, org.varlink.service included, without I/O: a call in, replies out through a callback. The
 * transport hands in the calls of one connection one after another, the next when `handle` has ended, since replies
 * carry no mark of their call; different connections do not wait for each other.
 */
export class Server<Context> {
  readonly #options: ServerOptions;
  /** By the interface's name, then by the method's whole name. */
  readonly #interfaces = new Map<string, ReadonlyMap<string, ServedMethod<Context>>>();

  constructor(info: ServiceInfo, interfaces: readonly ServedInterface<Context>[], options: ServerOptions) {
    this.#options = options;
    const service = describeService<Context>(info, interfaces);
    for (const served of [service, ...interfaces]) {
      const { name } = served.description;
      if (this.#interfaces.has(name)) throw new TypeError(`${name} is served twice`);
      this.#interfaces.set(name, servedMethods(served));
    }
  }

  /**
   * Answers a call through `send`. Returns undefined where all is done already, as it is for handlers that answer at
   * once and calls that fit no description, and else a promise for the end of it, which rejects only as `bugError` says.
   */
  handle(call: Call, context: Context, send: Send): Promise<void> | undefined {
    const reply: Send = call.oneway
      ? (_reply, fds) => {
          if (fds.length > 0) this.#options.discard(fds);
        }
      : send;
    let answer: Promise<MethodAnswer> | MethodAnswer;
    try {
      answer = this.#begin(call, context, reply);
    } catch (error) {
      this.#fail(error, call, reply);
      return undefined;
    }
    if (!(answer instanceof Promise)) {
      finish(answer, reply);
      return undefined;
    }
    return answer.then(
      (answered) => {
        finish(answered, reply);
      },
      (error: unknown) => {
        this.#fail(error, call, reply);
      },
    );
  }

  #begin(call: Call, context: Context, send: Send): Promise<MethodAnswer> | MethodAnswer {
    const { check, handler } = this.#find(call.method);
    if (call.upgrade) throw new InvalidParameter('upgrade', 'no method here hands over the connection');
    if (call.fault !== undefined) throw new InvalidParameter(call.fault.parameter, call.fault.reason);
    const parameters = check(call.parameters);
    if (handler === undefined) throw new MethodNotImplemented(call.method);
    return handler(parameters, context, {
      more: call.more,
      oneway: call.oneway,
      sendContinues: (part, fds = noFds) => {
        if (!call.more && !call.oneway) throw new ExpectedMore();
        send({ parameters: part, continues: true }, fds);
      },
    });
  }

  #find(name: string): ServedMethod<Context> {
    const dot = name.lastIndexOf('.');
    if (dot <= 0) throw new MethodNotFound(name);
    const methods = this.#interfaces.get(name.slice(0, dot));
    if (methods === undefined) throw new InterfaceNotFound(name.slice(0, dot));
    const method = methods.get(name);
    if (method === undefined) throw new MethodNotFound(name);
    return method;
  }

  #fail(error: unknown, call: Call, send: Send): void {
    if (error instanceof VarlinkError) {
      sendError(error, send);
      return;
    }
    this.#options.onBug(error, call.method);
    const { bugError } = this.#options;
    if (bugError === undefined) throw error;
    sendError(bugError, send);
  }
}

function finish(answer: MethodAnswer, send: Send): void {
  send({ parameters: answer.parameters, continues: false }, answer.fds ?? noFds);
}

function sendError(error: VarlinkError, send: Send): void {
  send({ error: error.name, parameters: error.parameters, continues: false }, noFds);
}

function servedMethods<Context>(
  served: ServedInterface<Context>,
): ReadonlyMap<string, ServedMethod<Context>> {
  const checks = callChecks(served.description);
  for (const name of Object.keys(served.methods)) {
    if (!checks.has(name)) throw new TypeError(`${served.description.name} has no method ${name}`);
  }
  const methods = new Map<string, ServedMethod<Context>>();
  for (const [name, check] of checks) {
    const handler = Object.hasOwn(served.methods, name) ? served.methods[name] : undefined;
    methods.set(`${served.description.name}.${name}`, { check, handler });
  }
  return methods;
}

function describeService<Context>(
  info: ServiceInfo,
  interfaces: readonly ServedInterface<Context>[],
): ServedInterface<Context> {
  const texts = new Map(interfaces.map(({ description, text }) => [description.name, text]));
  texts.set(serviceName, serviceText);
  const names = [...texts.keys()].sort();
  return {
    description: serviceInterface,
    text: serviceText,
    methods: {
      GetInfo: () => ({ parameters: infoReply(info, names) }),
      GetInterfaceDescription: (parameters) => {
        const name = parameters['interface'];
        const description = typeof name === 'string' ? texts.get(name) : undefined;
        if (description === undefined) throw new InterfaceNotFound(typeof name === 'string' ? name : '');
        return { parameters: { description } };
      },
    },
  };
}
