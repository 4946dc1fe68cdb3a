/** From which level on lines are written. `audit` lines are of level info and are written whatever the level. */
export const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof logLevels)[number];
