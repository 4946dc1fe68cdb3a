import type { Constraints } from '../../policy/question.ts';
import type { OwnedFd } from '../../sys/fd.ts';
import type { MountRecord } from '../callers/handouts.ts';
import type { IdMapCaller } from './id-map.ts';
import type { TakenImage } from '../images/images.ts';
import type { Owner } from '../callers/owner.ts';
import type { IdMapRequest } from '../calls/request.ts';
import type { ResolvedStores } from './stores.ts';

/** What is to be mounted, with everything decided. */
export interface MountOrder {
  readonly image: TakenImage;
  /** The decision's constraints; `attributes` are all that the mount gets, the request's among them. */
  readonly constraints: Constraints;
  readonly stores: ResolvedStores;
  readonly idMap: IdMapRequest;
  readonly peer: Owner & IdMapCaller & { readonly pidfd: OwnedFd };
  /** What is remembered of it for as long as the mount lives. */
  readonly record?: MountRecord;
}
