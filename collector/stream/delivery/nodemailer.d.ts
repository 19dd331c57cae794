/** What is used of `nodemailer`, which brings no declarations. */
declare module 'nodemailer' {
  export interface Transport {
    sendMail(mail: {
      from: string;
      to: readonly string[];
      subject: string;
      text: string;
      messageId: string;
    }): Promise<unknown>;
    close(): void;
  }
  export function createTransport(options: {
    host: string;
    port: number;
    secure: boolean;
    requireTLS: boolean;
    tls: { ca?: Buffer };
    auth?: { user: string; pass: string };
    connectionTimeout: number;
    greetingTimeout: number;
    socketTimeout: number;
  }): Transport;
}
