# Somebody on Kaggle: a notebook whose session ends when Kaggle wants.
cp examples/notebooks/digits.ipynb mine.ipynb
sed -i 's/%%timebox 2m/%%timebox 6s/; s/optimizer.step()/optimizer.step(); __import__(\\"time\\").sleep(0.03)/' mine.ipynb
has "timebox 6s" mine.ipynb
export KAGGLE_KERNEL_RUN_TYPE=Interactive

step "runs all cells; the boxed one stops in time"
jupyter execute mine.ipynb --output=first.ipynb
says "not complete. Run the cell again" cat first.ipynb
says "timeboxed" backprop list

step "the session ends; runs all cells in a new kernel until it is complete"
for _ in 1 2 3 4 5; do
    jupyter execute mine.ipynb --output=next.ipynb
    grep -q "not complete" next.ipynb || break
done
says "completed" backprop list

step "runs it as a script, too"
says "from the newest checkpoint" backprop docs notebooks
