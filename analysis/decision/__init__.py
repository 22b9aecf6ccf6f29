"""The decision as a statistic: who is judged next, who beats whom, and whether there is a champion. numpy alone."""
