import type { Reporter, TestModule } from 'vitest/node';

/** Says at the end which files failed, how many tests were skipped, and which passed on a second try only: never silently. */
export default class SkipsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const failed = modules.filter((module) => module.state() === 'failed');
    if (failed.length > 0) {
      console.log(
        `\nFailed test files:\n${failed.map((module) => `  ${module.relativeModuleId}`).join('\n')}`,
      );
    }
    const lines: string[] = [];
    for (const module of modules) {
      const skipped = [...module.children.allTests('skipped')].length;
      if (skipped > 0) lines.push(`  ${module.relativeModuleId}: ${skipped}`);
    }
    const again = modules
      .flatMap((module) => [...module.children.allTests('passed')])
      .filter((test) => test.diagnostic()?.flaky === true)
      .map((test) => `  ${test.module.relativeModuleId}: ${test.fullName}`);
    if (again.length > 0) console.log(`\nPassed on a second try only:\n${again.join('\n')}`);
    if (lines.length > 0) console.log(`\nSkipped tests, for the reasons given above:\n${lines.join('\n')}`);
  }
}
