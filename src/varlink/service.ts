import { VarlinkError } from './error.ts';
import { parseInterface } from './idl.ts';
import type { Interface } from './interface.ts';
import type { JsonObject } from './json.ts';

/** Name of the interface that every varlink service has, https://varlink.org/Service. */
export const serviceName = 'org.varlink.service';

/** Who serves, as GetInfo tells it. */
export interface ServiceInfo {
  readonly vendor: string;
  readonly product: string;
  readonly version: string;
  readonly url: string;
}

/** The description of org.varlink.service as it is served; `reason` is ours, and others pass over it. */
export const serviceText = `# What every varlink service can be asked, and the errors that every method can answer with.
interface org.varlink.service

# Who serves this, and which interfaces.
method GetInfo() -> (
  vendor: string,
  product: string,
  version: string,
  url: string,
  interfaces: []string
)

# The description of an interface, in varlink's own language.
method GetInterfaceDescription(interface: string) -> (description: string)

# The service does not have the interface.
error InterfaceNotFound (interface: string)

# The interface does not have the method.
error MethodNotFound (method: string)

# The interface has the method, and this service does not implement it.
error MethodNotImplemented (method: string)

# A parameter is missing, unknown, or not what the method takes.
error InvalidParameter (parameter: string, reason: ?string)

# The caller may not do this.
error PermissionDenied ()

# The method answers more than once, and the call did not ask for it.
error ExpectedMore ()
`;

/** The parsed description of org.varlink.service. */
export const serviceInterface: Interface = parseInterface(serviceText);

/** Names are short; a peer that sends a megabyte for one is not sent it back, for that would wait in our memory. */
function shown(name: string): string {
  return name.length > 255 ? `${name.slice(0, 255)}…` : name;
}

/** The service does not have the interface. */
export class InterfaceNotFound extends VarlinkError {
  override readonly parameters: { readonly interface: string };

  constructor(name: string) {
    const parameters = { interface: shown(name) };
    super(`${serviceName}.InterfaceNotFound`, parameters);
    this.parameters = parameters;
  }
}

/** The interface does not have the method; `method` is the whole name that was called. */
export class MethodNotFound extends VarlinkError {
  override readonly parameters: { readonly method: string };

  constructor(method: string) {
    const parameters = { method: shown(method) };
    super(`${serviceName}.MethodNotFound`, parameters);
    this.parameters = parameters;
  }
}

/** The interface has the method, and this service does not implement it. */
export class MethodNotImplemented extends VarlinkError {
  override readonly parameters: { readonly method: string };

  constructor(method: string) {
    const parameters = { method };
    super(`${serviceName}.MethodNotImplemented`, parameters);
    this.parameters = parameters;
  }
}

/** A parameter is missing, unknown, or not what the method takes: which (`image.name`, `stores[1]`), and why. */
export class InvalidParameter extends VarlinkError {
  override readonly parameters: { readonly parameter: string; readonly reason?: string };

  constructor(parameter: string, reason?: string) {
    const parameters = { parameter, ...(reason !== undefined && { reason }) };
    super(`${serviceName}.InvalidParameter`, parameters);
    this.parameters = parameters;
  }
}

/** The caller may not do this. */
export class PermissionDenied extends VarlinkError {
  constructor() {
    super(`${serviceName}.PermissionDenied`, {});
  }
}

/** The method answers more than once, and the call did not ask for it. */
export class ExpectedMore extends VarlinkError {
  constructor() {
    super(`${serviceName}.ExpectedMore`, {});
  }
}

/** The class of one of the six errors for an error that came as a reply; undefined for any other. */
export function serviceError(error: VarlinkError): VarlinkError | undefined {
  if (!error.name.startsWith(`${serviceName}.`)) return undefined;
  const text = (name: string): string | undefined => {
    const value = error.parameters[name];
    return typeof value === 'string' ? value : undefined;
  };
  switch (error.name.slice(serviceName.length + 1)) {
    case 'InterfaceNotFound':
      return new InterfaceNotFound(text('interface') ?? '');
    case 'MethodNotFound':
      return new MethodNotFound(text('method') ?? '');
    case 'MethodNotImplemented':
      return new MethodNotImplemented(text('method') ?? '');
    case 'InvalidParameter':
      return new InvalidParameter(text('parameter') ?? '', text('reason'));
    case 'PermissionDenied':
      return new PermissionDenied();
    case 'ExpectedMore':
      return new ExpectedMore();
    default:
      return undefined;
  }
}

/** GetInfo's reply. `interfaces` are sorted by the caller. */
export function infoReply(info: ServiceInfo, interfaces: readonly string[]): JsonObject {
  const { vendor, product, version, url } = info;
  return { vendor, product, version, url, interfaces };
}
