export const MARK: string;
export interface LeftBehind {
  id: number;
  command: string;
}
export function leftBehind(mark: string): LeftBehind[];
export function endLeftBehind(
  mark: string,
  say: (text: string) => void,
  graceMs?: number,
): Promise<number>;
