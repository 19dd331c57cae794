export class KafkaLog { static create(..._: unknown[]): Promise<never> { return Promise.reject(new Error('x')); } }
