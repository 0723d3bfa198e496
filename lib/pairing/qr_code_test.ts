import assert from "node:assert/strict";
import { readQrCode } from "../../tests/qr_picture.ts";
import { newIdentity } from "../repository/identity.ts";
import { decodeInvitation, encodeInvitation, newInvitationSecret } from "./invitation.ts";
import { qrCode } from "./qr_code.ts";

Deno.test("qrCode(): another program reads the invitation back", () => {
  for (const relay of [undefined, `https://relay.example/${"x".repeat(200)}`]) {
    const { publicKey } = newIdentity();
    const text = encodeInvitation({ publicKey, secret: newInvitationSecret(), relay });
    const lines = qrCode(text).trimEnd().split("\n");
    if (!relay) assert(lines.every((line) => line.length <= 80), "fits a terminal");
    assert.deepEqual(decodeInvitation(readQrCode(lines)), decodeInvitation(text));
  }
});
