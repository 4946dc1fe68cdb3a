import {
  LimitExceeded,
  mountDelegation,
  mountDelegationText,
  type Evidence as EvidenceReply,
  type MountDelegationMethods,
} from '../api/mount-delegation.ts';
import type { Evidence } from '../policy/question.ts';
import { InvalidParameter, PermissionDenied } from '../varlink/service.ts';
import { Server } from '../varlink/server.ts';
import { audit, type Decided, type Log, type Logs } from './calls/audit.ts';
import type { CallContext } from './calls/call.ts';
import type { Confinement } from './confine.ts';
import { describe } from './describe.ts';
import { addObjects, mount, verify, type Findings } from './handle.ts';
import { limits } from './callers/limits.ts';
import { service } from './callers/owner.ts';
import { RateLimit } from './callers/rate.ts';
import { insideError, shortName, tell } from './calls/refusal.ts';
import { parseAddObjectsRequest, parseMountRequest, parseVerifyRequest } from './calls/request.ts';
import type { Workshop } from './workshop.ts';

/** What the methods of the interface work with. */
export interface ServiceOptions {
  readonly version: string;
  readonly confinement: Confinement;
  readonly workshop: Workshop;
  readonly logs: Logs;
  /** Puts the policy on disk into force. Throws PolicyInvalid. */
  readonly reload: () => void;
}

/** The server of org.varlink.service and io.cfsmountd.MountDelegation. */
export function createServer(options: ServiceOptions): Server<CallContext> {
  return new Server<CallContext>(
    { vendor: 'cfs-mountd', product: 'cfs-mountd', version: options.version, url: 'https://composefs.org' },
    [{ description: mountDelegation, text: mountDelegationText, methods: methods(options) }],
    {
      onBug: (error) => {
        options.logs.log.error({ err: error }, 'bug in a method');
      },
      bugError: insideError(),
      discard: (fds) => {
        options.workshop.closing.close(fds, service.closing);
      },
    },
  );
}

function methods(options: ServiceOptions): MountDelegationMethods<CallContext> {
  const { workshop: stages, logs } = options;
  const { log } = logs;
  const rate = new RateLimit(() => limits.mountsPerSecondPerUser);
  const recorded: Recorded = { logs, rate };
  return {
    async Mount(parameters, context, { oneway }) {
      if (oneway) throw new InvalidParameter('oneway', 'nobody would get the mount');
      return decided('Mount', context, recorded, async (found) => {
        const request = parseMountRequest(parameters, context.fds);
        const handout = await mount(request, context.peer, stages, found);
        context.ownStorage = handout.ownStorage;
        return {
          parameters: {
            mountFileDescriptor: 0,
            evidence: evidenceReply(handout.evidence),
            attributes: [...handout.attributes],
          },
          fds: [handout.mount.take()],
        };
      });
    },
    async Verify(parameters, context) {
      return decided('Verify', context, recorded, async (found) => {
        const request = parseVerifyRequest(parameters, context.fds);
        return {
          parameters: { evidence: evidenceReply(await verify(request, context.peer, stages, found)) },
        };
      });
    },
    async AddObjects(parameters, context) {
      return decided('AddObjects', context, recorded, async (found) => {
        const request = parseAddObjectsRequest(parameters, context.fds);
        const { evidence, missing, missingNext } = await addObjects(request, context.peer, stages, found);
        return {
          parameters: {
            evidence: evidenceReply(evidence),
            store: found.store ?? '',
            added: found.added.map(({ path }) => path),
            missing: [...missing],
            ...(missingNext !== undefined && { missingNext }),
          },
        };
      });
    },
    Describe() {
      return { parameters: describe(options, stages.features, stages.policies) };
    },
    KeptMounts(_parameters, context) {
      demandRoot(context);
      return { parameters: { mounts: [...(stages.kept?.list() ?? [])] } };
    },
    async Drop({ digest }, context) {
      demandRoot(context);
      const dropped = stages.kept?.drop((kind) => digest === undefined || kind.digest === digest);
      await stages.sweeper.settled();
      log.info({ digest, dropped, user: context.peer.user }, 'kept mounts dropped');
      return { parameters: { dropped: dropped ?? 0 } };
    },
    async Reload(_parameters, context) {
      demandRoot(context);
      try {
        options.reload();
        const { policy } = stages.policies.current;
        const refusedNow = await stages.refusedBy(policy);
        return { parameters: { policyDigest: policy.digest, refusedNow: refusedNow.map(evidenceReply) } };
      } catch (error) {
        throw told(error, log).error;
      }
    },
  };
}

function demandRoot({ peer }: CallContext): void {
  if (!peer.caller.root) throw new PermissionDenied();
}

/** What is asked before anything is decided, and where it is put down. */
interface Recorded {
  readonly logs: Logs;
  readonly rate: RateLimit;
}

/** Runs `work`, writes its audit line, and throws what the peer is to be told where it failed. */
async function decided<Answer>(
  method: Decided['method'],
  context: CallContext,
  { logs: { log, decisions, output }, rate }: Recorded,
  work: (found: Findings) => Promise<Answer>,
): Promise<Answer> {
  if (output.isBehind) throw new LimitExceeded({ limit: 'logBytes', value: limits.logBytes });
  const begun = performance.now();
  if (!rate.pass(context.peer, begun)) {
    throw new LimitExceeded({ limit: 'mountsPerSecondPerUser', value: limits.mountsPerSecondPerUser });
  }
  const found: Findings = {
    digest: undefined,
    evidence: undefined,
    rule: undefined,
    generation: undefined,
    store: undefined,
    added: [],
  };
  const line = { method, peer: context.peer };
  try {
    const answer = await work(found);
    context.decidedBy = found.generation;
    audit(decisions, {
      ...line,
      ...found,
      result: 'allowed',
      reason: undefined,
      milliseconds: performance.now() - begun,
    });
    return answer;
  } catch (thrown) {
    const { error, reason } = told(thrown, log);
    audit(decisions, {
      ...line,
      ...found,
      result: shortName(error),
      reason,
      milliseconds: performance.now() - begun,
    });
    throw error;
  }
}

function told(thrown: unknown, log: Log): ReturnType<typeof tell> {
  const answer = tell(thrown);
  if (answer.bug) log.error({ err: thrown }, 'bug in a method');
  return answer;
}

function evidenceReply(evidence: Evidence): EvidenceReply {
  const { name, version } = evidence;
  return {
    digest: evidence.digest,
    ...(name !== undefined && { name }),
    ...(version !== undefined && { version }),
    signers: [...evidence.signers],
    rule: evidence.rule,
  };
}
