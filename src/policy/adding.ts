import type { AddTarget } from './question.ts';
import type { Case, Verdict } from './verdict.ts';
import { denied, failed, held } from './verdict.ts';

/** Where the files go that are to be added; undefined where no files are, or where they may not be. */
export function addTarget({ policy, rule, question }: Case): AddTarget | undefined {
  if (question.addTo === undefined) return undefined;
  const name = question.addTo.store ?? rule.addObjects[0];
  const store = name === undefined || !rule.addObjects.includes(name) ? undefined : policy.stores.get(name);
  return store === undefined ? undefined : { store, bytesPerHour: rule.addBytesPerHour };
}

/** add-objects. */
export function checkAddObjects(asked: Case): Verdict {
  const { policy, rule, question, fileSystem } = asked;
  const name = question.addTo?.store;
  if (name !== undefined && !policy.stores.has(name)) {
    return failed(`the policy has no store "${name}"`, { kind: 'StoreNotFound', parameters: { name } });
  }
  if (fileSystem !== 'composefs') {
    const reason = `only composefs images have files in stores, and this one is ${fileSystem}`;
    return failed(reason, { kind: 'IncompatibleImage' });
  }
  const target = addTarget(asked);
  if (target !== undefined) return held(`lets its callers add files to the store "${target.store.name}"`);
  if (rule.addObjects.length === 0) return denied('lets nobody add files to a store (add-objects)');
  return denied(
    `lets its callers add files to ${rule.addObjects.map((each) => `"${each}"`).join(', ')}, not to "${name ?? ''}" (add-objects)`,
  );
}
