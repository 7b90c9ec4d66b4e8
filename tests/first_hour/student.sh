# A student with a laptop and a script from a course.
mkdir homework && cd homework
cp ../examples/unmodified/digits_torch.py train.py

step "types what feels natural"
refuses 2 "backprop run train.py" backprop train.py
refuses 2 "backprop run train.py -- --lr 0.1" backprop run train.py --lr 0.1
refuses 2 "Did you mean 'status'" backprop staus

step "looks around"
says "Run a training script inside a time box" backprop --help
says "A laptop that gets hot" backprop docs
says "until the script completes" backprop docs laptop
says "A run may start now" backprop doctor --quick

step "gives it eight seconds; closes the laptop's lid in time"
says "Resume: backprop resume" backprop run train.py -m 8s --budget-from training --run-id homework -- --pause 0.02
says "timeboxed" backprop list
says "from the first step: timeboxed" backprop status homework

step "goes on in the evening, presses Ctrl-C at once"
backprop resume homework -m 5 > evening.txt 2>&1 &
until_said "resumed from step" evening.txt
backprop stop homework
wait $!
has "backprop resume homework" evening.txt

step "lets it complete, compares with a training without backprop"
backprop resume homework -m 10 > last.txt
python train.py > alone.txt
[ "$(tr -d '\r' < last.txt | tail -n 1)" = "$(tail -n 1 alone.txt)" ]

step "shows the teacher"
says "homework.html" backprop report homework -o homework.html
says "epoch 0" backprop logs homework --attempt 1
says "nothing to resume" backprop resume homework

step "tidies up"
says "would remove" backprop prune --older-than 0s --dry-run
says "removed from" backprop prune --older-than 0s --yes
