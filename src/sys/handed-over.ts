/** A descriptor that the service manager handed over. */
export interface HandedOver {
  readonly fd: number;
  /** The socket unit's name, or the one under which an earlier process had it kept; `unknown` where none was told. */
  readonly name: string;
}

const listenFdsStart = 3;

/**
 * What the service manager handed over (sd_listen_fds_with_names(3)): LISTEN_FDS descriptors from 3 on, called as LISTEN_FDNAMES
 * says, where LISTEN_PID is `pid`; nothing otherwise. Throws where the variables are malformed.
 */
export function handedOver(environment: NodeJS.ProcessEnv, pid: number): readonly HandedOver[] {
  const { LISTEN_FDS: count, LISTEN_PID: owner, LISTEN_FDNAMES: listed } = environment;
  if (count === undefined || owner !== String(pid)) return [];
  if (!/^[1-9][0-9]{0,2}$/.test(count))
    throw new Error(`LISTEN_FDS is "${count}", not the number of descriptors`);
  const names = listed?.split(':');
  if (names !== undefined && names.length !== Number(count)) {
    throw new Error(`LISTEN_FDNAMES is "${listed ?? ''}", not a name for each of ${count} descriptors`);
  }
  return Array.from({ length: Number(count) }, (_, index) => {
    return { fd: listenFdsStart + index, name: names?.[index] ?? 'unknown' };
  });
}
