"""What `backprop report` and `backprop diff` show: charts, one page of HTML, and curves for a terminal."""
