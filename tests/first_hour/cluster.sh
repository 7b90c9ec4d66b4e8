# A cluster user: jobs that end when the scheduler says so.
mkdir scratch && cd scratch
cp ../examples/unmodified/digits_torch.py ../examples/unmodified/digits_ddp.py .
export BACKPROP_HOME=$PWD/shared

step "tries the SLURM line outside of a job"
refuses 2 "SLURM_JOB_ID is not set" backprop run digits_torch.py --requeue
says "sbatch" backprop docs scale

step "one line for each job; the job's end is a fixed instant"
job() {
    BACKPROP_DEADLINE=$(($(date +%s) + $1)) backprop run digits_torch.py -m 1h --run-id nightly --resume-or-start \
        --timeboxed-exit-code 85 -- --pause 0.03
}
jobs=0
while :; do
    status=0
    job 25 > job-$jobs.txt 2>&1 || status=$?
    [ $status != 0 ] || break
    [ $status = 85 ] || [ $status = 124 ] || { cat job-$jobs.txt; echo "status $status"; exit 1; }
    jobs=$((jobs + 1))
    [ $jobs -lt 10 ]
done
cat job-0.txt
[ $jobs -ge 1 ]
has "before BACKPROP_DEADLINE" job-0.txt
says "nightly" backprop list --status completed
python digits_torch.py > alone.txt
[ "$(grep -a digest job-$jobs.txt | tr -d '\r' | tail -n 1)" = "$(tail -n 1 alone.txt)" ]

step "a completed run is left alone by the next job"
says "completed" job 60

step "the scheduler preempts: SIGTERM, and a resume"
backprop run digits_torch.py -m 10 --run-id preempted -- --pause 0.05 > preempted.txt 2>&1 &
until_said "starting from scratch" preempted.txt
until_said "epoch 0" preempted.txt
kill -TERM $!
wait $! || true
has "backprop resume preempted" preempted.txt
says "preempted" backprop list --name preempted

step "two processes"
backprop run --exec torchrun --run-id ddp -m 10 -- --nproc-per-node 2 digits_ddp.py --epochs 2 > ddp.txt 2>&1 || { cat ddp.txt; exit 1; }
has "digest" ddp.txt
