// The npm package age-encryption as a judge. stdin: a JSON list of tasks; stdout: the JSON list of their results.
// Identities come by stdin only. A task that fails gives {"error": …}.
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto; // Node 18 has it under this name only
const { Decrypter, Encrypter, armor, identityToRecipient } = await import("age-encryption");

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const base64 = (data) => Buffer.from(data).toString("base64");

const tasks = {
  recipient: ({ identity }) => identityToRecipient(identity),
  open: async ({ identity, file }) => {
    const opener = new Decrypter();
    opener.addIdentity(identity);
    return base64(await opener.decrypt(bytes(file)));
  },
  seal: async ({ recipients, plaintext }) => {
    const sealer = new Encrypter();
    for (const recipient of recipients) sealer.addRecipient(recipient);
    return base64(await sealer.encrypt(bytes(plaintext)));
  },
  dearmor: ({ text }) => base64(armor.decode(text)),
};

let given = "";
for await (const chunk of process.stdin) given += chunk;
const results = [];
for (const task of JSON.parse(given)) {
  try {
    results.push(await tasks[task.do](task));
  } catch (error) {
    results.push({ error: String(error) });
  }
}
process.stdout.write(JSON.stringify(results));
