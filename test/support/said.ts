/** What a command prints when its function is called in this process. */
import { vi } from 'vitest';

/** Standard output, and the exit code that it set. Rejects as the command. */
export async function said(
  command: () => void | Promise<void>,
): Promise<{ stdout: string; code: number }> {
  let stdout = '';
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    stdout += String(chunk);
    return true;
  });
  const before = process.exitCode;
  process.exitCode = 0;
  try {
    await command();
    return { stdout, code: Number(process.exitCode) };
  } finally {
    spy.mockRestore();
    process.exitCode = before;
  }
}
