import type { Digest } from '../../base/digest.ts';
import type { Policy } from '../../policy/policy.ts';
import type { Contents } from './contents.ts';
import type { Images, TakenImage } from './images.ts';
import type { Peer } from '../callers/peer.ts';
import type { ImageRequest } from '../calls/request.ts';

/** What is known of an image that nobody is about to mount. */
export type KnownImage = Pick<TakenImage, 'digest' | 'location' | 'signatureFiles' | 'scan' | 'contents'> &
  Disposable;

/** How many images one connection can name by digest: who adds files does so for one image after another. */
const imagesMax = 8;

/**
 * Images that came as a descriptor with an earlier call of a connection. Many calls may be needed to add the files of an image,
 * and what a signature says holds for a digest: so the digest does instead of the bytes, which would have to be
 * copied and measured for each. Only on that connection: what others show stays theirs.
 */
export class ShownImages {
  readonly #images: Pick<Images, 'take'>;
  readonly #contents: Contents;
  readonly #shown = new WeakMap<Peer, Set<Digest>>();

  constructor(images: Pick<Images, 'take'>, contents: Contents) {
    this.#images = images;
    this.#contents = contents;
  }

  /** As Images.take; a digest may stand for an image that was shown. */
  take(request: ImageRequest, peer: Peer, policy: Policy): Promise<KnownImage> | KnownImage {
    if (request.kind === 'digest' && this.#shown.get(peer)?.has(request.digest) === true) {
      const scan = this.#contents.get(request.digest);
      if (scan !== undefined)
        return {
          digest: request.digest,
          signatureFiles: [],
          scan: () => scan,
          contents: () => scan,
          [Symbol.dispose]: () => undefined,
        };
    }
    return this.#images.take(request, peer, policy);
  }

  /** Remembers that `peer` has shown the image of `digest`, if it came as a descriptor. */
  remember(request: ImageRequest, peer: Peer, digest: Digest): void {
    if (request.kind !== 'descriptor') return;
    const shown = this.#shown.get(peer) ?? new Set();
    this.#shown.set(peer, shown);
    shown.delete(digest);
    shown.add(digest);
    for (const oldest of shown) {
      if (shown.size <= imagesMax) return;
      shown.delete(oldest);
    }
  }
}
