import type { KeptKind, Pin } from './kept-mounts.ts';
import { idMapContents } from './id-map.ts';
import type { MountOrder } from './mount-order.ts';
import { groupOf } from '../callers/owner.ts';
import type { PlanInput } from '../../mount/plan.ts';
import type { OpenPolicyStore } from './store-clones.ts';

/** What can be kept of an order: the mount itself, and the EROFS layer below, where others may have that as well. */
export interface Keepable {
  readonly top: KeptKind;
  readonly layer: KeptKind | undefined;
}

/**
 * What of `order` may be kept for later requests, and whose; undefined where nothing may. An image or store that a
 * client could hold up or unmount is not kept at all; a copy of a client's memfd is its user's alone, whatever the rule
 * says; and an installed image is shared as the rule says, its EROFS layer below an overlay with everyone.
 */
export function keepable(
  order: MountOrder,
  fileSystem: PlanInput['fileSystem'],
  layers: readonly OpenPolicyStore[],
): Keepable | undefined {
  const { image, constraints, idMap, peer } = order;
  if (image.kind === 'verity' || order.stores.directories.length > 0) return undefined;
  const mapping = idMapContents(idMap, peer);
  if (mapping === undefined) return undefined;
  const { digest, installed } = image;
  const shared = installed !== undefined && constraints.share === 'everyone';
  const user = shared ? undefined : peer.user;
  // The same user ID means different people outside and inside of containers (owner.ts).
  const sharers = shared ? 'everyone' : `${peer.user} ${groupOf(peer)} ${peer.caller.root ? 'root' : ''}`;
  const backing = installed === undefined ? 'copy' : `file ${installed.identity}`;
  const pins: Pin[] = layers.map(({ path, identity }) => ({ path, identity }));
  if (installed !== undefined) pins.push({ path: installed.location, identity: placeOf(installed.identity) });
  const stores = layers.map(({ identity, trusted }) => `${identity}${trusted ? ' trusted' : ''}`);
  const verity = layers.length === 0 ? '' : constraints.verity;
  const key = [constraints.fileSystem, fileSystem, digest, backing, sharers, mapping, verity, ...stores].join(
    '\n',
  );
  const top = { key, digest, user, pins };
  if (fileSystem !== 'composefs' || installed === undefined) return { top, layer: undefined };
  const layer = { key: `layer\n${digest}\n${backing}`, digest, user: undefined, pins: pins.slice(-1) };
  return { top, layer };
}

/** Device and inode, of an identity that says more. */
function placeOf(identity: string): string {
  return identity.split(':', 2).join(':');
}
