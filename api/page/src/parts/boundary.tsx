// What breaks inside breaks alone: the error is shown in place of it, the rest of the page stays.
import { Component } from "preact";
import type { ComponentChildren, JSX } from "preact";

interface Props {
  children: ComponentChildren;
}

// A class, as only a class can catch what its children throw.
export class Boundary extends Component<Props, { error: unknown }> {
  override state: { error: unknown } = { error: null };

  static override getDerivedStateFromError(error: unknown): { error: unknown } {
    return { error };
  }

  override componentDidCatch(error: unknown): void {
    console.error(error);
  }

  override render({ children }: Props, { error }: { error: unknown }): JSX.Element {
    if (error === null) return <>{children}</>;
    return (
      <div class="note bad failed" role="alert">
        <p><b>This part of the page failed.</b></p>
        <p class="q2"><code>{String(error)}</code></p>
        <button class="btn s" type="button" onClick={() => this.setState({ error: null })}>Show it again</button>
      </div>
    );
  }
}
