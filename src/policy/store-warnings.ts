import { checkPath } from './ownership.ts';
import type { Policy, PolicyStore } from './policy.ts';

/**
 * What is surely wrong with the folders of stores whose files are checked as they are opened: one sentence each. Those of trusted
 * stores are faults of the policy, and found as it is loaded. Reads the folders.
 */
export function storeWarnings({ stores, rules }: Policy): readonly string[] {
  return [...stores.values()]
    .filter(({ verity }) => verity === 'require')
    .flatMap((store) => {
      const adds = rules.some(({ addObjects }) => addObjects.includes(store.name));
      if (!adds && !rules.some((rule) => rule.stores.includes(store.name))) return [];
      const what = adds
        ? 'the service adds no files there, and others can take files away'
        : 'others can take files away, which its images then lack (a changed file is refused as it is opened)';
      return problemsOf(store).map((problem) => `store "${store.name}": ${problem}: ${what}`);
    });
}

function problemsOf({ path }: PolicyStore): readonly string[] {
  try {
    return checkPath(path).problems;
  } catch (error) {
    return [error instanceof Error ? error.message : `${path} cannot be looked at`];
  }
}
