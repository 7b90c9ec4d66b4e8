# An engineer whose agent trains: everything is read by a program.
mkdir lab && cd lab
cat > train.py <<'PY'
import json, sys, time
import numpy as np
rate = float(sys.argv[1])
if rate > 1:
    raise ValueError(f"rate {rate} diverges")
w = np.zeros(3)
for step in range(600):
    w -= rate * (w - 3.0) + rate * np.random.normal(size=3)
    time.sleep(0.01)
    if step % 50 == 0:
        print(json.dumps({"step": step, "loss": float(((w - 3.0) ** 2).mean())}), flush=True)
print("done", w)
PY
cat > agent.py <<'PY'
import json, subprocess

def train(rate, *more):
    name = f"rate-{rate}"
    command = ["backprop", "run", "train.py", "-m", "2s", "--budget-from", "training", "--run-id", name, "--resume-or-start"]
    subprocess.run([*command, "--json-to", "result.json", *more, "--", str(rate)], check=False)
    return json.load(open("result.json"))

cut = train(0.1)
assert cut["outcome"] == "timeboxed" and cut["exit_status"] == 0 and cut["next"] == "backprop resume rate-0.1", cut
assert 0 < cut["seconds_by_kind"]["training"] < cut["seconds"], cut
while cut["next"]:
    cut = train(0.1)
assert cut["outcome"] == "completed" and cut["next"] is None and cut["loss"] is not None, cut

broken = train(2.0)
assert broken["outcome"] == "failed" and "ValueError: rate 2.0 diverges" in broken["why"], broken

runs = json.loads(subprocess.run(["backprop", "list", "--json"], capture_output=True, text=True, check=True).stdout)
assert {run["id"]: run["status"] for run in runs} == {"rate-0.1": "completed", "rate-2.0": "failed"}, runs

unknown = subprocess.run(["backprop", "status", "nobody", "--json"], capture_output=True, text=True)
assert unknown.returncode == 2 and json.loads(unknown.stdout)["exit_status"] == 2, unknown
PY

step "reads the page for programs"
says "give a training five minutes\|Give a training five minutes" backprop docs agents
step "trains until it is done, sees a failure, lists"
python agent.py

step "checks that a resume is exact: the script is not seeded, and the proof names the line"
refuses 3 "numpy.random.seed(0)" backprop prove train.py --steps 20 --cuts 2 -m 5 -- 0.1
grep -q "said.txt" said.txt && { echo "the proof takes its own output for the script's"; exit 1; }
sed -i 's/^rate = /np.random.seed(0)\n&/' train.py
says "Bit-identical" backprop prove train.py --steps 20 --cuts 2 -m 5 -- 0.1
