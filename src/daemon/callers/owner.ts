/** Whose share of the limits something takes. */
export interface Owner {
  /** The user who counts as the caller (peer.ts); below 0 where it is none of the machine's users. */
  readonly user: number;
  /**
   * Whoever has several user IDs at hand has one group: root of a container, or a user with subordinate IDs. Left out,
   * the user alone.
   */
  readonly group?: string;
  /** Root of the initial user namespace, or the service itself: for them some of everything is kept back. */
  readonly root?: boolean;
}

/** The owner's group. */
export function groupOf({ user, group }: Owner): string {
  return group ?? `user ${user}`;
}

/** User 0 of a container, who is not the machine's root, has neither root's shares nor root's lanes. */
export const containerRoot = -3;

/** What the service does for everybody: measuring images, sweeping, closing what nobody waits for. */
export const service: Readonly<Record<'measuring' | 'sweeping' | 'closing' | 'pruning', Owner>> = {
  measuring: { user: -1, root: true },
  sweeping: { user: -2, root: true },
  closing: { user: -4, root: true },
  pruning: { user: -6, root: true },
};

/** Peers of whom nothing is known. */
export const nobodyKnown: Owner = { user: -5 };
