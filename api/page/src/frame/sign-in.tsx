// Sign-in: by `POST /api/v1/session`, which sets a cookie that this page cannot read.
import { useState } from "preact/hooks";
import type { JSX, TargetedSubmitEvent } from "preact";
import { ApiError, signedOut } from "../client/api.ts";
import { go, place } from "../state/location.ts";
import { me, signIn } from "../state/session.ts";

export function SignIn(): JSX.Element {
  const [error, setError] = useState<ApiError | null>(null);
  const [waiting, setWaiting] = useState(false);
  const hadSession = me.value !== null;

  async function submit(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const fields = new FormData(event.currentTarget);
    setWaiting(true);
    setError(null);
    try {
      await signIn(String(fields.get("user")), String(fields.get("password")));
      if (place.value.path === "/sign-in") go("/runs", { replace: true });
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem);
    } finally {
      setWaiting(false);
    }
  }

  return (
    <main class="sign-in">
      <form onSubmit={(event) => void submit(event)}>
        <h1>Sign in to Modeltrail</h1>
        {signedOut.value && hadSession && <p class="note">Your session has ended. Sign in, and you are back where you were.</p>}
        <div>
          <label class="l" for="user">User</label>
          <input class="field" id="user" name="user" autocomplete="username" autofocus required maxLength={256} />
        </div>
        <div>
          <label class="l" for="password">Password</label>
          <input class="field" id="password" name="password" type="password" autocomplete="current-password" required maxLength={1024} />
        </div>
        {error && (
          <p class="note bad" role="alert">
            {error.status === 401 ? "The name or the password is wrong." : error.message}
            {error.requestId && error.status !== 401 && <> <code>{error.requestId}</code></>}
          </p>
        )}
        <button class="btn main-act" disabled={waiting}>Sign in</button>
        <p class="q s12">Programs use a token instead: <code>modeltrail token create</code>.</p>
      </form>
    </main>
  );
}
