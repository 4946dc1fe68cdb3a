import { ImageError, IncompatibleImage } from './errors.ts';
import * as format from './format.ts';
import type { Piece } from './inode.ts';
import { flatPieces, isFlat, readInode } from './inode.ts';
import type { Image } from './superblock.ts';

/** feature_compat: the table is in the image as it is, whether or not there is a packed inode (Linux 6.17). */
const compatPlainPrefixes = 0x10;

/** Bytes of the image, some of which may belong to other places, as one sequence. */
type Sequence = readonly Piece[];

/**
 * The name prefix that an attribute's number from 128 on stands for: an entry of the superblock's table, which has a short
 * prefix's number and what follows it (erofs_xattr_prefixes_init() of Linux 6.17, fs/erofs/xattr.c). Throws ImageError,
 * IncompatibleImage.
 */
export function longPrefix(image: Image, number: number, offset: number): string {
  const { view } = image;
  const wanted = number - format.longPrefixFirst;
  if (wanted >= view.getUint8(format.superblockOffset + 91))
    throw new ImageError(offset, `an extended attribute has the prefix ${number}, which is not in the table`);
  const table = tableOf(image);
  let position = 4 * view.getUint32(format.superblockOffset + 92, true);
  for (let index = 0; ; index++) {
    const bytes = byteAt(image, table, position) + 256 * byteAt(image, table, position + 1);
    if (bytes === 0) throw new ImageError(format.superblockOffset + 92, 'a long attribute prefix is empty');
    if (index === wanted) return prefixAt(image, table, position + 2, bytes);
    position = format.roundUp(position + 2 + bytes, 4);
  }
}

/** Where positions of the table count from: the packed inode where there is one, else the image. */
function tableOf(image: Image): Sequence {
  const { view, bytes } = image;
  const packed = Number(view.getBigUint64(format.superblockOffset + 96, true));
  const plain = (view.getUint32(format.superblockOffset + 8, true) & compatPlainPrefixes) !== 0;
  if (plain || packed === 0) return [{ offset: 0, bytes: bytes.length }];
  const inode = readInode(image, packed);
  if (!isFlat(inode))
    throw new IncompatibleImage(
      inode.offset,
      'the long attribute prefixes are in an inode that is compressed',
    );
  return flatPieces(image, inode);
}

function byteAt({ bytes }: Image, table: Sequence, position: number): number {
  let before = 0;
  for (const piece of table) {
    const byte = position - before < piece.bytes ? bytes[piece.offset + position - before] : undefined;
    if (byte !== undefined) return byte;
    before += piece.bytes;
  }
  throw new ImageError(
    format.superblockOffset + 92,
    'the long attribute prefixes cross the end of their area',
  );
}

function prefixAt(image: Image, table: Sequence, position: number, bytes: number): string {
  const base = byteAt(image, table, position);
  const short = base === 0 ? '' : format.xattrPrefixes.find(({ index }) => index === base)?.prefix;
  if (short === undefined)
    throw new IncompatibleImage(
      format.superblockOffset + 92,
      `a long attribute prefix begins with the unknown ${base}`,
    );
  if (bytes - 1 > format.nameBytesMax)
    throw new ImageError(format.superblockOffset + 92, 'a long attribute prefix is longer than any name');
  const infix = Array.from({ length: bytes - 1 }, (_, index) =>
    String.fromCharCode(byteAt(image, table, position + 1 + index)),
  );
  return short + infix.join('');
}
