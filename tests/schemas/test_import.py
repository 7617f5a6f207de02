import subprocess
import sys


def test_importing_the_contract_loads_no_more_than_it_needs() -> None:
    """A training job pays for this import; schemas are parsed when they are first used."""
    code = (
        "import sys, modeltrail.schemas as s\n"
        "from modeltrail.schemas import codec\n"
        "s.encode('RunDeleted', dict(run_id='r', envelope=s.envelope("
        "producer_id=b'p' * 16, sequence=0, actor='', client='')))\n"
        "parsed = [t.name for t in codec._types().values() if 'schema' in vars(t)]\n"
        "assert parsed == ['RunDeleted'], parsed\n"
        "heavy = {'numpy', 'importlib.resources', 'modeltrail.schemas.compatibility'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
