import { mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { toBase64 } from '../../src/base/bytes.ts';
import type { Digest } from '../../src/base/digest.ts';
import type { Entry } from '../../src/composefs/tree.ts';
import { writeImage } from '../../src/composefs/write.ts';
import { objectPath } from '../../src/store/objects.ts';
import type { OwnedFd } from '../../src/sys/fd.ts';
import { openFile } from '../../src/sys/file.ts';
import type { JsonObject } from '../../src/varlink/message.ts';
import { verityDigest } from '../../src/verity/verity.ts';
import { digestOf, Host, makePlace, Signer, type Place } from '../support/hosting.ts';
import type { RawClient, RawReply } from '../support/raw-client.ts';
import { memfdOf } from './acceptance-room.ts';

/** A file that is an object: it is not kept inside of the image. */
export interface Content {
  readonly bytes: Uint8Array;
  /** Its path in a store. */
  readonly path: string;
}

let made = 0;

/** Content that nobody has seen: a test that runs a second time has others. `seed` is what it says of itself. */
export function contentOf(seed: string, bytes = 5000): Content {
  const block = Buffer.alloc(bytes, `${made++} ${seed}\n`);
  return { bytes: block, path: objectPath(verityDigest(block)) };
}

/** A composefs image of files with these contents, by name. */
export function imageOf(contents: Readonly<Record<string, Content>>): Uint8Array {
  const owned = { uid: 0, gid: 0, mtime: { seconds: 0n, nanoseconds: 0 }, xattrs: [] } as const;
  const entries = new Map<string, Entry>();
  for (const [name, { bytes, path }] of Object.entries(contents)) {
    const content = { kind: 'external', path, digest: verityDigest(bytes) } as const;
    entries.set(name, { type: 'file', mode: 0o644, ...owned, size: bytes.length, content, nlink: 1 });
  }
  const root = { type: 'directory', mode: 0o755, ...owned, entries } as const;
  return writeImage({ root }, { minVersion: 1, maxVersion: 1 });
}

/** Who may add files in the room, and who may not. */
export const adderUid = 61_001;
export const otherAdderUid = 61_002;
export const frugalUid = 61_003;
export const strangerUid = 61_009;

/** What `frugalUid` may add within an hour. */
export const frugalBytes: number = 64 * 1024;

/** A service whose policy lets some users add files of signed images to its store, and everything that adding needs. */
export class AddingRoom {
  readonly place: Place;
  readonly host: Host;
  readonly signer: Signer;
  /** The store `site`, to which files are added. */
  readonly store: string;

  private constructor(place: Place, host: Host, signer: Signer, store: string) {
    this.place = place;
    this.host = host;
    this.signer = signer;
    this.store = store;
  }

  /** Opens a room, with its store in the folder `storeFolder` where that is given. */
  static async open(name: string, storeFolder?: string): Promise<AddingRoom> {
    const place = makePlace(name);
    const signer = new Signer();
    const store = storeFolder ?? join(place.folder, 'store');
    const images = join(place.folder, 'images');
    for (const folder of [store, images, join(place.folder, 'other-store')]) {
      mkdirSync(folder, { recursive: true, mode: 0o755 });
    }
    const host = await Host.start({
      folder: place.folder,
      policy: { '10-site.toml': policyOf(place.folder, store) },
      keys: { 'site.pub': signer.publicPem },
    });
    return new AddingRoom(place, host, signer, store);
  }

  /** Ends the service, and removes everything. */
  async close(): Promise<void> {
    await this.host.stop();
    this.place.remove();
  }

  /** The parameter with a signature of the image by the key that the policy trusts. */
  signatures(digest: Digest, name = 'example/app'): readonly string[] {
    return [toBase64(this.signer.sign(digest, name))];
  }

  /** Calls AddObjects with the image in a memfd, signed, and these files. */
  async add(
    client: RawClient,
    image: Uint8Array,
    files: readonly (OwnedFd | number)[],
    more: JsonObject = {},
  ): Promise<RawReply> {
    using memfd = memfdOf(image);
    const fds = files.map((file) => (typeof file === 'number' ? file : file.number));
    return await client.call(
      'AddObjects',
      {
        image: { fileDescriptor: 0 },
        signatures: this.signatures(digestOf(image)),
        objectFileDescriptors: fds.map((_, index) => index + 1),
        ...more,
      },
      [memfd.number, ...fds],
    );
  }

  /** A file that holds `bytes`, of a user's, open for reading. */
  fileOf(bytes: Uint8Array, name: string): OwnedFd {
    const path = join(this.place.folder, name);
    writeFileSync(path, bytes);
    return openFile(path);
  }

  /** Everything below the store, folders left out, sorted. */
  stored(): string[] {
    return readdirSync(this.store, { recursive: true, encoding: 'utf8' })
      .filter((name) => statSync(join(this.store, name)).isFile())
      .sort();
  }
}

function policyOf(folder: string, store: string): string {
  const rule = (name: string, uids: readonly number[], more: string): string => `
[[rules]]
name = "${name}"
users = [${uids.map((uid) => `"${uid}"`).join(', ')}]
images = ["example/**"]
signed-by = ["site"]
stores = ["site"]
verity = "if-present"
${more}
`;
  return `
[[keys]]
id = "site"
file = "site.pub"
[[stores]]
name = "site"
path = "${store}"
verity = "trusted"
[[stores]]
name = "other"
path = "${folder}/other-store"
verity = "trusted"
[[image-directories]]
path = "${folder}/images"
${rule('adders', [adderUid, otherAdderUid, 1000, 0], 'add-objects = ["site"]')}
${rule('frugal', [frugalUid], `add-objects = ["site"]\nadd-bytes-per-hour = ${frugalBytes}`)}
${rule('strangers', [strangerUid], '')}
`;
}
