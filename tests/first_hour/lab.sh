# A lab with one workstation: several people's habits on one machine.
mkdir work && cd work
cp ../examples/unmodified/digits_torch.py train.py
export BACKPROP_MAX_PARALLEL=1

step "two trainings, one slot: the second waits and says for what"
backprop run train.py -m 4s --budget-from training --run-id one -- --pause 0.02 > one.txt 2>&1 &
until_said "run one" one.txt
refuses 75 "limit 1, --max-parallel" backprop run train.py --no-wait --run-id hasty -- --epochs 1
backprop run train.py -m 4s --budget-from training --run-id two --wait-minutes 5 -- --pause 0.02 > two.txt 2>&1 &
second=$!
until_said "waiting since" two.txt
says "running: one" backprop status
wait %1
wait $second
has "Resume: backprop resume two" two.txt

step "house rules in the environment and in a file"
says "BACKPROP_MAX_PARALLEL" backprop config
printf '{"maxRunMinutes": 0}' > backprop.config.json
refuses 2 "must be a number of minutes greater than 0" backprop run train.py
printf '{"maxRunMinute": 3}' > backprop.config.json
refuses 2 "Did you mean" backprop run train.py
rm backprop.config.json

step "a small sweep"
unset BACKPROP_MAX_PARALLEL
for epochs in 1 2 3; do
    backprop run train.py -m 5 --run-id sweep-$epochs -- --epochs $epochs > /dev/null 2>&1
    backprop tag sweep-$epochs sweep
done
says "sweep-3" backprop list --tag sweep --sort step
says "epochs" backprop diff sweep-1 sweep-3
backprop note sweep-3 "the longest"
says "the longest" backprop status sweep-3

step "a limit that the machine cannot meet"
refuses 75 "free memory" backprop run train.py --no-wait --min-free-ram 60000

step "takes weights to another program"
says "model.safetensors" backprop export sweep-3 --to weights
says "restored" backprop verify sweep-3
