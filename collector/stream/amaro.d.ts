/** What is used of `amaro`, the type stripper that Node itself has from version 22 on. It brings no declarations. */
declare module 'amaro' {
  export function transformSync(source: string, options: { mode: 'strip-only' }): { code: string };
}
