// What can be done with the selected runs: tag them, delete them. By MLflow's routes, run by run.
import { useState } from "preact/hooks";
import type { JSX } from "preact";
import { ApiError, ask, writes } from "../../client/api.ts";
import { Dialog } from "../../parts/dialog.tsx";
import { toast } from "../../parts/toast.tsx";

const AT_ONCE = 4;

/** Do something to each run; returns how many it was done to. Stops at the first refusal, which is shown. */
async function toEach(ids: readonly string[], path: string, body: (id: string) => unknown, reason: string): Promise<number> {
  const left = [...ids];
  let done = 0;
  let refused: ApiError | null = null;
  const headers: Record<string, string> = reason ? { "X-Modeltrail-Reason": encodeReason(reason) } : {};
  async function work(): Promise<void> {
    for (let id = left.shift(); id !== undefined && !refused; id = left.shift()) {
      try {
        await ask("POST", `/api/2.0/mlflow/${path}`, { body: body(id), headers });
        done += 1;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        refused ??= error;
      }
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  writes.value += 1;
  if (refused) toast(<>{done} of {ids.length} done, then: {(refused as ApiError).message}</>, { kind: "bad" });
  return done;
}

/** Headers hold Latin-1 only. */
function encodeReason(text: string): string {
  return text.replace(/[^\u0020-\u007e\u00a0-\u00ff]/g, "?");
}

export function TagDialog({ ids, close }: { ids: readonly string[]; close: () => void }): JSX.Element {
  const [waiting, setWaiting] = useState(false);
  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    setWaiting(true);
    const [key, value] = [String(fields.get("key")), String(fields.get("value"))];
    const done = await toEach(ids, "runs/set-tag", (run_id) => ({ run_id, key, value }), "");
    if (done === ids.length) toast(`Tagged ${done} ${done === 1 ? "run" : "runs"}.`, { kind: "pass" });
    close();
  }
  return (
    <Dialog title={`Tag ${ids.length} ${ids.length === 1 ? "run" : "runs"}`} close={close} footer={<>
      <span class="gap" /><button class="btn" type="button" onClick={close}>Cancel</button>
      <button class="btn main-act" form="tag-form" disabled={waiting}>Tag</button>
    </>}>
      <form id="tag-form" class="form" onSubmit={(event) => void submit(event)}>
        <div><label class="l" for="tag-key">Key</label><input class="field" id="tag-key" name="key" required maxLength={250} autofocus /></div>
        <div><label class="l" for="tag-value">Value</label><input class="field" id="tag-value" name="value" maxLength={5_000} /></div>
      </form>
    </Dialog>
  );
}

export function DeleteDialog({ ids, restore = false, close }: { ids: readonly string[]; restore?: boolean; close: (done: boolean) => void }): JSX.Element {
  const [waiting, setWaiting] = useState(false);
  const what = `${ids.length} ${ids.length === 1 ? "run" : "runs"}`;
  const word = restore ? "Restore" : "Delete";
  async function submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const reason = String(new FormData(event.currentTarget as HTMLFormElement).get("reason"));
    setWaiting(true);
    const done = await toEach(ids, restore ? "runs/restore" : "runs/delete", (run_id) => ({ run_id }), reason);
    if (done === ids.length) toast(`${word}d ${what}.`, { kind: "pass" });
    close(true);
  }
  return (
    <Dialog title={`${word} ${what}`} close={() => close(false)} footer={<>
      <span class="gap" /><button class="btn" type="button" onClick={() => close(false)}>Cancel</button>
      <button class="btn main-act" form="delete-form" disabled={waiting}>{word} {what}</button>
    </>}>
      <form id="delete-form" class="form" onSubmit={(event) => void submit(event)}>
        {!restore && <p class="q2">Deleted runs leave the lists. Their events stay in the log, and they can be restored.</p>}
        <div><label class="l" for="reason">Reason</label><input class="field" id="reason" name="reason" required={!restore} maxLength={1_000} autofocus /></div>
      </form>
    </Dialog>
  );
}
