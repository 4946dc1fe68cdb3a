import type { Digest } from '../base/digest.ts';
import { scanImage } from '../composefs/scan.ts';
import { verityDigest } from '../verity/verity.ts';
import type { HandedOut } from './handed-out.ts';
import { isRecent } from './handed-out.ts';

/** An image and the objects that it needs, by path in a store. */
export interface ImageObjects {
  readonly digest: Digest;
  readonly objects: readonly string[];
}

/** The image whose bytes these are. Throws ImageError, IncompatibleImage. */
export function objectsOf(image: Uint8Array): ImageObjects {
  return { digest: verityDigest(image), objects: scanImage(image).objects };
}

/** Images are mounted whose objects nobody knows, so that nothing can be called garbage. */
export class UnknownMounts extends Error {
  override readonly name = 'UnknownMounts';

  constructor(digests: readonly Digest[]) {
    super(
      `mounted, and nobody says which objects they need: ${digests.join(', ')}; ` +
        'give the images with --image, or --unknown-mounts ignore where they use no object of this store',
    );
  }
}

/** What says which objects are needed. */
export interface Needs {
  /** Images that are to stay. */
  readonly images: readonly ImageObjects[];
  readonly handedOut: readonly HandedOut[];
  /** Digests of what is mounted anywhere. */
  readonly mounted: ReadonlySet<Digest>;
  /** Milliseconds since 1970. */
  readonly now: number;
  readonly unknownMounts: 'refuse' | 'ignore';
}

/**
 * The objects that must stay: of the images given, of those that are mounted, and of those handed out in the last hour,
 * whose mount may be in no mount namespace yet. Throws UnknownMounts where a mounted image is neither given nor recorded.
 */
export function neededObjects({
  images,
  handedOut,
  mounted,
  now,
  unknownMounts,
}: Needs): ReadonlySet<string> {
  const needed = new Set<string>();
  const known = new Set<Digest>();
  const kept = handedOut.filter(({ digest, at }) => mounted.has(digest) || isRecent(at, now));
  for (const { digest, objects } of [...images, ...kept]) {
    known.add(digest);
    for (const object of objects) needed.add(object);
  }
  const unknown = [...mounted].filter((digest) => !known.has(digest));
  if (unknown.length > 0 && unknownMounts === 'refuse') throw new UnknownMounts(unknown);
  return needed;
}
