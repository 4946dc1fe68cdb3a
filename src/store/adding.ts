import { StoreError } from './objects.ts';
import type { ObjectStore, StoredObject } from './objects.ts';
import { errorCode } from './unfinished-file.ts';

/** What a thread that adds objects is told: open files to add in order, or to bring names to the disk. */
export type AddingRequest =
  | { readonly kind: 'add'; readonly id: number; readonly fds: readonly number[] }
  | { readonly kind: 'sync'; readonly id: number };

/** What became of one file. */
export type Added = (StoredObject & { readonly fault?: undefined }) | { readonly fault: AddingFault };

/** What it answers: for each file what became of it; or why names are not on the disk. */
export interface AddingAnswer {
  readonly id: number;
  readonly files: readonly Added[];
  readonly fault?: AddingFault;
}

/** Adds open files to a store, all at once: what has to be written waits for the disk, and the others are done by then. */
export function addFiles(store: ObjectStore, fds: readonly number[]): Promise<Added[]> {
  return Promise.all(
    fds.map(async (fd): Promise<Added> => {
      try {
        return await store.add(fd);
      } catch (error) {
        return { fault: toAddingFault(error) };
      }
    }),
  );
}

/** An error as plain data, which passes from one thread to another. */
export type AddingFault =
  | { readonly kind: 'store'; readonly path: string; readonly reason: string }
  | { readonly kind: 'system'; readonly code: string; readonly message: string }
  | { readonly kind: 'bug'; readonly message: string };

/** `error` as data. */
export function toAddingFault(error: unknown): AddingFault {
  if (error instanceof StoreError) return { kind: 'store', path: error.path, reason: error.reason };
  const code = errorCode(error);
  const message = error instanceof Error ? error.message : String(error);
  return code === undefined ? { kind: 'bug', message } : { kind: 'system', code, message };
}

/** The error that `toAddingFault` was given, as far as data can carry it. */
export function fromAddingFault(fault: AddingFault): Error {
  switch (fault.kind) {
    case 'store':
      return new StoreError(fault.path, fault.reason);
    case 'system':
      return Object.assign(new Error(fault.message), { code: fault.code });
    case 'bug':
      return new Error(fault.message);
  }
}
